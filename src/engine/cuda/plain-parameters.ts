import { addressed, batch } from "./common-fields.js";
import { kernelParameters } from "./parameters.js";

/** What products without tensor cores are given. */
export const product = kernelParameters("ProductParameters", {
  ...batch,
  weights: "const uint4*",
  input: "const float4*",
  gain: "const float4*",
  bias: "const float*",
  residual: "const float*",
  lse: "const float*",
  output: "float*",
  columns: "u32",
  outputs: "u32",
  firstRow: "u32",
  gated: "u32",
  lastRows: "u32",
  headDim: "u32",
  outputStride: "u32",
  outputOffset: "u32",
  epsilon: "f32",
});

/** What attention without tensor cores is given. */
export const attend = kernelParameters("AttendParameters", {
  ...addressed,
  query: "const void*",
  keys: "void*",
  values: "void*",
  output: "float*",
  lse: "float*",
  gains: "const float*",
  angles: "const float2*",
  rotated: "float*",
  rotatedKeys: "float*",
  group: "u32",
  headDim: "u32",
  queryFormat: "u32",
  cacheFormat: "u32",
  pageSize: "u32",
  keyColumn: "u32",
  valueColumn: "u32",
  epsilon: "f32",
});
