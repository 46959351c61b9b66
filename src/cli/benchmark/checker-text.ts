import type { ChecksumFigures } from "./checksum.js";
import type { CompareFigures } from "./compare-figures.js";
import type { DiagnoseFigures } from "./diagnose-figures.js";
import type { Machine } from "./machine.js";
import type { ShapeDiagnosis, ShapeFigures, SkippedShape } from "./shape-figures.js";
import type { Ratio, Series } from "./times.js";
import { gigabytes, megabytes, timesText } from "./units.js";

export interface CheckerFigures {
  readonly machine: Machine;
  readonly compare: CompareFigures | { readonly skipped: string };
  readonly diagnose: DiagnoseFigures | { readonly skipped: string };
  readonly shapes: readonly (ShapeFigures | SkippedShape)[];
}

export function checkerText({ machine, compare, diagnose, shapes }: CheckerFigures): string {
  const parts = [
    [`${machine.cores} cores (${machine.processor}), Node ${machine.node}`],
    "skipped" in compare ? [`compare: not measured: ${compare.skipped}`] : compareLines(compare),
    "skipped" in diagnose ? [`diagnose: not measured: ${diagnose.skipped}`] : diagnoseLines(diagnose),
    ...shapes.map((figures) =>
      "skipped" in figures
        ? [`diagnose at the ${figures.shape} shape: not measured: ${figures.skipped}`]
        : shapeLines(figures),
    ),
  ];
  return `${parts.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

function compareLines(compare: CompareFigures): string[] {
  const { baseline } = compare;
  const lines = [
    `compare, two ${compare.dtype} captures of ${gigabytes(compare.bytesPerCapture)} each (in ${compare.folder}, ${gigabytes(compare.freeBytes)} were free; deleted)`,
    `  ${timesText(compare)}, peak ${megabytes(compare.peakBytes)}`,
  ];
  if ("unavailable" in baseline) return [...lines, `  NumPy's allclose: not measured: ${baseline.unavailable}`];
  return [
    ...lines,
    `  NumPy ${baseline.numpy} allclose, same files: ${timesText(baseline)}, peak ${megabytes(baseline.peakBytes)}`,
    `  ${compare.ratio!.toFixed(2)} times the time of allclose (processor time: ${compare.cpuRatio!.toFixed(2)} times)`,
  ];
}

function diagnoseLines(diagnose: DiagnoseFigures): string[] {
  const what = diagnose.tensors ? `${diagnose.tensors} tensors` : "a capture directory";
  const { checksum, overChecksum } = diagnose;
  const lines = [
    `diagnose, ${what}, ${diagnose.seconds.length} runs, exit status ${diagnose.exitCode}`,
    `  median ${medianText(diagnose)}, peak ${megabytes(diagnose.peakBytes)}`,
  ];
  if (!checksum || !overChecksum) return lines;
  return [...lines, `  ${checksumText(checksum)}`, `  ${ratioText(overChecksum, checksum.program)}`];
}

function shapeLines(figures: ShapeFigures): string[] {
  const { shape, tokens, checkpointBytes, recordingBytes, folder, checksum, baseline, clean, fault } = figures;
  const disk = `in ${folder}, ${gigabytes(figures.neededBytes)} needed, ${gigabytes(figures.freeBytes)} were free; deleted`;
  const ratios = ({ overChecksum, overBaseline }: ShapeDiagnosis) =>
    `${ratioText(overChecksum, checksum.program)}; ${ratioText(overBaseline, "allclose")}`;
  return [
    `diagnose at the ${shape} shape, ${tokens} tokens: checkpoint ${gigabytes(checkpointBytes)}, recording ${gigabytes(recordingBytes)} (${disk})`,
    `  medians of ${clean.seconds.length} rounds`,
    `  clean: ${medianText(clean)}, peak ${megabytes(clean.peakBytes)}`,
    `  fault in one layer, ${fault.causes.join(", ")}: ${medianText(fault)}, peak ${megabytes(fault.peakBytes)}`,
    `  ${checksumText(checksum)}`,
    `  NumPy ${baseline.numpy} allclose of the recording with itself: ${medianText(baseline)}, peak ${megabytes(baseline.peakBytes)}`,
    `  clean is ${ratios(clean)}`,
    `  fault is ${ratios(fault)}`,
  ];
}

function medianText({ medianSeconds, medianCpuSeconds }: Series): string {
  return timesText({ seconds: medianSeconds, cpuSeconds: medianCpuSeconds });
}

function checksumText(checksum: ChecksumFigures): string {
  const missing = checksum.program === "sha256sum" ? "" : " (there is no sha256sum here)";
  return `${checksum.program}${missing}, SHA-256 of the checkpoint and the recording, ${gigabytes(checksum.bytes)}: ${medianText(checksum)}`;
}

function ratioText({ ratio, cpuRatio }: Ratio, of: string): string {
  return `${ratio.toFixed(2)} times the time of ${of} (processor time: ${cpuRatio.toFixed(2)} times)`;
}
