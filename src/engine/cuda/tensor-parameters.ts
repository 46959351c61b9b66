import { addressed, header } from "./common-fields.js";
import { kernelParameters } from "./parameters.js";

/** A product on tensor cores. */
export const tensorProduct = kernelParameters("TensorProductParameters", {
  ...header,
  weights: "const uint4*",
  input: "const uint4*",
  bias: "const float*",
  residual: "const float*",
  output: "float*",
  narrow: "uint2*",
  columns: "u32",
  outputs: "u32",
  firstRow: "u32",
  gated: "u32",
  outputStride: "u32",
  outputOffset: "u32",
});

/** Attention on tensor cores. */
export const tensorAttend = kernelParameters("TensorAttendParameters", {
  ...addressed,
  query: "const void*",
  keys: "const void*",
  values: "const void*",
  output: "float2*",
  narrow: "unsigned*",
  lse: "float*",
  group: "u32",
  headDim: "u32",
  queryFormat: "u32",
  pageSize: "u32",
});
