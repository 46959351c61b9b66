import { Command } from "commander";
import type { Capture } from "../capture/capture.js";
import { openCapture } from "../capture/reader.js";
import { type CaptureComparison, compareCaptures } from "../compare/compare.js";
import { comparisonText } from "../report/comparison.js";
import { comparisonJson } from "../report/comparison-json.js";
import { progressLine } from "../report/progress.js";
import { visibleJson } from "../report/visible-text.js";
import type { Graph } from "../spec/graph.js";
import { parseModelConfig } from "../spec/models/config.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { decoderGraph } from "../spec/models/decoder.js";
import { InputError } from "../tensor/errors.js";
import { colorsOnOutput } from "./style.js";

const help = `
A capture is a capture directory or a plain .safetensors file of module outputs. REFERENCE is the good run (also called
baseline, golden or expected), TARGET the suspect one (candidate or actual).

Values are listed in order of execution. noise is the relative error that storing alone may cause in the two dtypes;
state is same, rounding (no element further apart than one store on each side explains), relabelled (the same values in
another order), differs, or shape (the elements cannot be paired).

Exit status: 0 when every value of the reference is the same or within rounding, 1 when not, 2 when an input cannot be read.

Examples:
  faultline compare golden.safetensors run.safetensors
  faultline compare golden/ run/ --model models/ishmael-7m --differing
  faultline compare golden/ run/ --json | jq '.values[.first]'
`;

interface Options {
  readonly model?: string;
  readonly json?: boolean;
  readonly differing?: boolean;
}

/** `faultline compare REFERENCE TARGET` */
export function compareCommand(): Command {
  return new Command("compare")
    .description("compare two recorded runs element by element, in order of execution")
    .argument("<reference>", "capture of the good run (baseline, golden, expected)")
    .argument("<target>", "capture of the suspect run (candidate, actual)")
    .option(
      "-m, --model <dir>",
      "model folder; maps axis orders by the model's config.json (default: the captures' own config)",
    )
    .option("--differing", "list only values that are not the same")
    .option("--json", "print the result as JSON (docs/compare.md)")
    .addHelpText("after", help)
    .action(compare);
}

function compare(referencePath: string, targetPath: string, options: Options): void {
  const progress = progressLine();
  try {
    const comparison = compareRuns(referencePath, targetPath, options.model, (done) =>
      progress.report("comparing", done),
    );
    progress.clear();
    process.stdout.write(
      options.json
        ? `${visibleJson(comparisonJson(comparison))}\n`
        : comparisonText(comparison, { colors: colorsOnOutput(), differingOnly: options.differing }),
    );
    process.exitCode = comparison.same ? 0 : 1;
  } finally {
    progress.clear();
  }
}

/**
 * Compares two captures by their paths.
 * @param model folder of the model; that of the captures' own config where it is left out.
 * @throws InputError when one cannot be read, or they have no value in common.
 */
export function compareRuns(
  referencePath: string,
  targetPath: string,
  model: string | undefined,
  progress: (done: number) => void,
): CaptureComparison {
  const reference = openCapture(referencePath);
  try {
    const target = openCapture(targetPath);
    try {
      const graph = modelGraph(model, reference, target);
      const comparison = compareCaptures(reference, target, {
        graph,
        onProgress: (done, total) => progress(done / total),
      });
      if (comparison.values.length === 0) {
        throw new InputError(
          `${targetPath}: expected values that ${referencePath} has too, found none in common: "${comparison.missing[0]?.name}" / "${comparison.extra[0]?.name}"`,
        );
      }
      return comparison;
    } finally {
      target.close();
    }
  } finally {
    reference.close();
  }
}

/** The spec of the model named, else of the config a capture carries, else none: recorded shapes are compared then. */
function modelGraph(directory: string | undefined, ...captures: Capture[]): Graph | undefined {
  if (directory !== undefined) return decoderGraph(readModelConfig(directory).config);
  for (const { path, manifest } of captures) {
    if (!manifest.model) continue;
    try {
      return decoderGraph(parseModelConfig(manifest.model, path));
    } catch (error) {
      // A model this spec does not mean can still be compared by its recorded shapes.
      if (!(error instanceof InputError)) throw error;
    }
  }
  return undefined;
}
