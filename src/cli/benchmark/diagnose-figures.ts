import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { InputError } from "../../tensor/errors.js";
import { SafetensorsFile } from "../../tensor/safetensors.js";
import { type ChecksumFigures, type ChecksumRun, checksumFigures, filesRead, measureChecksum } from "./checksum.js";
import { type MeasuredRun, runMeasured } from "./measured-child.js";
import { say } from "./progress.js";
import { type Ratio, ratioOf, type Series, seriesOf } from "./times.js";

/** A finished run of diagnose, and what it found. */
export interface Diagnosis extends MeasuredRun {
  readonly verdict: string;
  readonly causes: readonly string[];
}

/** Several runs of diagnose over one recording. */
export interface DiagnosisFigures extends Series {
  readonly exitCode: number;
  readonly verdict: string;
  readonly causes: readonly string[];
  /** The largest of the runs. */
  readonly peakBytes: number;
}

export interface DiagnoseFigures extends DiagnosisFigures {
  readonly recording: string;
  readonly tensors: number;
  /** SHA-256 of the checkpoint and the recording, and our time over it: of a recording that was named. */
  readonly checksum?: ChecksumFigures;
  readonly overChecksum?: Ratio;
}

/** Diagnoses in a fresh process. @throws InputError when that gave no verdict: there is nothing to measure. */
export async function diagnoseOnce(recording: string, model: string): Promise<Diagnosis> {
  const run = await runMeasured(["diagnose", recording, "--model", model, "--json"]);
  try {
    const { verdict, causes } = JSON.parse(run.output) as { verdict: unknown; causes: { cause: string }[] };
    if (typeof verdict === "string") return { ...run, verdict, causes: causes.map(({ cause }) => cause) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new InputError(`${recording}: diagnose gave no verdict, exit status ${run.exitCode}`);
}

export function diagnosisFigures(runs: readonly Diagnosis[]): DiagnosisFigures {
  const { exitCode, verdict, causes } = runs[0]!;
  return { exitCode, verdict, causes, ...seriesOf(runs), peakBytes: Math.max(...runs.map((run) => run.peakBytes)) };
}

/** Diagnoses the named recording `count` times, or the golden one of a clone. */
export async function measureDiagnose(
  count: number,
  named: { readonly recording?: string; readonly model?: string },
): Promise<DiagnoseFigures | { readonly skipped: string }> {
  if (count === 0) return { skipped: "--runs 0" };
  const recording = named.recording ?? inClone("test/golden/hf_prefill_bf16_cpu.safetensors");
  const model = named.model ?? inClone("models/ishmael-7m");
  if (!existsSync(recording) || !existsSync(model)) {
    return {
      skipped: "the golden recording and its model are part of a clone; name others with --recording and --model",
    };
  }
  // The golden one is so small that starting a process would be all there is to SHA-256 of it.
  const files = named.recording === undefined ? [] : filesRead(model, recording);
  const runs: Diagnosis[] = [];
  const checksums: ChecksumRun[] = [];
  for (let i = 0; i < count; i++) {
    say(`diagnosing, run ${i + 1} of ${count}`);
    if (files.length > 0) checksums.push(await measureChecksum(files));
    runs.push(await diagnoseOnce(recording, model));
  }
  const figures = { recording, tensors: tensorCount(recording), ...diagnosisFigures(runs) };
  if (files.length === 0) return figures;
  const checksum = checksumFigures(files, checksums);
  return { ...figures, checksum, overChecksum: ratioOf(figures, checksum) };
}

function inClone(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

/** Tensors of a plain recording; a capture directory is not counted. */
function tensorCount(path: string): number {
  if (!path.endsWith(".safetensors")) return 0;
  const file = new SafetensorsFile(path);
  file.close();
  return file.entries.size;
}
