/** Faultline as a library: diagnose and compare recordings, read and write captures, evaluate the spec, generate. */
export type { Capture } from "./capture/capture.js";
export type { DenseView, PagedView, StepEvent } from "./capture/format.js";
export { CaptureObservations } from "./capture/observations.js";
export { openRun, type RunPath } from "./capture/ranks.js";
export { openCapture } from "./capture/reader.js";
export { CaptureWriter } from "./capture/writer.js";
export {
  type CaptureComparison,
  type ComparedValue,
  type CompareOptions,
  compareCaptures,
} from "./compare/compare.js";
export { type DiagnoseOptions, diagnose } from "./diagnose/diagnose.js";
export type { Cause } from "./diagnose/explain/cause.js";
export type { Proof } from "./diagnose/prove/proof.js";
export type { Diagnosis, ReferenceReport } from "./diagnose/reference/reference-report.js";
export type { Audit, Finding, Verdict } from "./diagnose/tell/verdict.js";
export { ReferencePath } from "./engine/reference/reference-path.js";
export type { Batch } from "./engine/run/batch.js";
export type { Path } from "./engine/run/path.js";
export { Generation, generate } from "./engine/serve/generation.js";
export { openPath } from "./engine/serve/open-path.js";
export { Recording } from "./engine/serve/recording.js";
export { readTokenizer } from "./engine/text/model-folder.js";
export { TextStream, Tokenizer } from "./engine/text/tokenizer.js";
export type { NameMap } from "./importers/names-file.js";
export { openDump, openRecording } from "./importers/recording.js";
export { type Mapping, mapNames } from "./names/map-names.js";
export { comparisonText } from "./report/comparison.js";
export { renderVerdict } from "./report/terminal.js";
export { exactArithmetic, RoundedArithmetic } from "./spec/arithmetic.js";
export { Evaluator } from "./spec/evaluator.js";
export { ModelParameters } from "./spec/formats/model-parameters.js";
export { Graph, type GraphNode } from "./spec/graph.js";
export { type ModelConfig, parseModelConfig } from "./spec/models/config.js";
export { readModelConfig } from "./spec/models/config-file.js";
export { decoderGraph } from "./spec/models/decoder.js";
export { RowTable } from "./spec/rows.js";
export { Checkpoint } from "./tensor/checkpoint.js";
export { InputError } from "./tensor/errors.js";
export { SafetensorsFile, writeSafetensors } from "./tensor/safetensors.js";
