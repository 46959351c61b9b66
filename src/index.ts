/** Faultline as a library: diagnose recordings, read and write captures, evaluate the spec. */
export { type Capture } from "./capture/capture.js";
export { openCapture } from "./capture/reader.js";
export { CaptureWriter } from "./capture/writer.js";
export { type DiagnoseOptions, diagnose } from "./diagnose/diagnose.js";
export type { Audit, Cause, Finding, Proof, Verdict } from "./diagnose/verdict.js";
export { renderVerdict } from "./report/terminal.js";
export { exactArithmetic, RoundedArithmetic } from "./spec/arithmetic.js";
export { Evaluator } from "./spec/evaluator.js";
export { Graph, type GraphNode } from "./spec/graph.js";
export { type ModelConfig, parseModelConfig, readModelConfig } from "./spec/models/config.js";
export { decoderGraph } from "./spec/models/decoder.js";
export { RowTable } from "./spec/rows.js";
export { Checkpoint } from "./tensor/checkpoint.js";
export { InputError } from "./tensor/errors.js";
