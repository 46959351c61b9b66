/** Faultline as a library: diagnose and compare recordings, read and write captures, evaluate the spec, generate. */
export type { Capture } from "./capture/capture.js";
export type { DenseView, PagedView, StepEvent } from "./capture/format.js";
export { CaptureObservations } from "./capture/observations.js";
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
export type { Audit, Finding, Verdict } from "./diagnose/tell/verdict.js";
export { Generation, generate } from "./engine/generate.js";
export { readTokenizer } from "./engine/model-folder.js";
export { openPath } from "./engine/open-path.js";
export type { Batch, Path } from "./engine/path.js";
export { ReferencePath } from "./engine/paths/reference.js";
export { Recording } from "./engine/recording.js";
export { TextStream, Tokenizer } from "./engine/tokenizer.js";
export { catalogue } from "./lab/catalogue.js";
export { runLab } from "./lab/run.js";
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
