import { join } from "node:path";
import { InputError } from "../../tensor/errors.js";
import { type ChecksumFigures, type ChecksumRun, checksumFigures, filesRead, measureChecksum } from "./checksum.js";
import { type Diagnosis, type DiagnosisFigures, diagnoseOnce, diagnosisFigures } from "./diagnose-figures.js";
import { measureNumpy, type NumpyRun } from "./numpy-baseline.js";
import { say } from "./progress.js";
import { runScript } from "./python-script.js";
import { freeBytes, inTemporaryFolder } from "./temporary-folder.js";
import { type Ratio, ratioOf, type Series, seriesOf } from "./times.js";
import { gigabytes } from "./units.js";

/** Shapes that scripts/benchmark/random_recording.py can make. */
export const shapes = ["0.6b", "8b"] as const;
export type Shape = (typeof shapes)[number];

const tokens = 64;

/** Diagnoses of one generated recording, over both baselines. */
export interface ShapeDiagnosis extends DiagnosisFigures {
  readonly overChecksum: Ratio;
  readonly overBaseline: Ratio;
}

export interface ShapeFigures {
  readonly shape: Shape;
  readonly tokens: number;
  readonly folder: string;
  readonly neededBytes: number;
  readonly freeBytes: number;
  readonly checkpointBytes: number;
  readonly recordingBytes: number;
  /** SHA-256 of the checkpoint and the clean recording. */
  readonly checksum: ChecksumFigures;
  /** NumPy's allclose of the clean recording with itself. */
  readonly baseline: Series & { readonly numpy: string; readonly peakBytes: number };
  readonly clean: ShapeDiagnosis;
  readonly fault: ShapeDiagnosis;
}

export interface SkippedShape {
  readonly shape: Shape;
  readonly skipped: string;
}

interface Plan {
  readonly checkpointBytes: number;
  readonly recordingBytes: number;
}

interface Request {
  readonly shape: Shape;
  readonly rounds: number;
  readonly folder: string;
  readonly python: string;
}

/**
 * Makes a checkpoint of the shape with two recordings, one of them faulty, and measures their diagnosis beside SHA-256 and NumPy.
 * @throws InputError when a verdict is not the expected one.
 */
export async function measureShape({ shape, rounds, folder, python }: Request): Promise<ShapeFigures | SkippedShape> {
  const skip = (skipped: string): SkippedShape => ({ shape, skipped });
  if (rounds === 0) return skip("--runs 0");
  const planned = await runScript(python, "random_recording.py", ["--plan", shape, String(tokens)]);
  if ("unavailable" in planned) return skip(planned.unavailable);
  const plan = JSON.parse(planned.output) as Plan;
  const needed = plan.checkpointBytes + 2 * plan.recordingBytes + 2 ** 26;
  const free = freeBytes(folder);
  say(`shape ${shape}: ${gigabytes(needed)} needed in ${folder}, ${gigabytes(free)} free`);
  if (free < needed)
    return skip(
      `${folder} has ${gigabytes(free)} free, ${gigabytes(needed)} are needed; name another with --folder, or --shape none`,
    );
  return inTemporaryFolder(folder, async (directory) => {
    say(`shape ${shape}: writing a checkpoint and two recordings`);
    const made = await runScript(python, "random_recording.py", [directory, shape, String(tokens)]);
    if ("unavailable" in made) return skip(made.unavailable);
    const measured = await measureRounds(directory, shape, rounds, python);
    if ("unavailable" in measured) return skip(measured.unavailable);
    return { shape, tokens, folder, neededBytes: needed, freeBytes: free, ...plan, ...measured };
  });
}

/** Every round runs everything once, so that other work on the machine disturbs all of it alike. */
async function measureRounds(directory: string, shape: Shape, rounds: number, python: string) {
  const [model, clean, fault] = ["model", "clean.safetensors", "fault.safetensors"].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  const files = filesRead(model, clean);
  const checksums: ChecksumRun[] = [];
  const numpys: NumpyRun[] = [];
  const cleans: Diagnosis[] = [];
  const faults: Diagnosis[] = [];
  for (let round = 1; round <= rounds; round++) {
    const step = (what: string) => say(`shape ${shape}, round ${round} of ${rounds}: ${what}`);
    step("SHA-256 of the checkpoint and the recording");
    checksums.push(await measureChecksum(files));
    step("diagnosing the clean recording");
    cleans.push(expected(await diagnoseOnce(clean, model), shape, "clean"));
    step("diagnosing the faulty one");
    faults.push(expected(await diagnoseOnce(fault, model), shape, "fault", "residual-dropped"));
    step("numpy.allclose of the clean recording with itself");
    const numpy = await measureNumpy(python, clean, clean);
    if ("unavailable" in numpy) return numpy;
    numpys.push(numpy);
  }
  const checksum = checksumFigures(files, checksums);
  const peakBytes = Math.max(...numpys.map((run) => run.peakBytes));
  const baseline = { numpy: numpys[0]!.numpy, ...seriesOf(numpys), peakBytes };
  const beside = (runs: readonly Diagnosis[]): ShapeDiagnosis => {
    const figures = diagnosisFigures(runs);
    return { ...figures, overChecksum: ratioOf(figures, checksum), overBaseline: ratioOf(figures, baseline) };
  };
  return { checksum, baseline, clean: beside(cleans), fault: beside(faults) };
}

/** The run, when it found what was put in. */
export function expected(run: Diagnosis, shape: Shape, verdict: string, ...causes: readonly string[]): Diagnosis {
  const found = [run.verdict, ...run.causes].join(", ");
  const wanted = [verdict, ...causes].join(", ");
  if (found !== wanted)
    throw new InputError(`the generated ${verdict} recording of shape ${shape}: expected ${wanted}, found ${found}`);
  return run;
}
