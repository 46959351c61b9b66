import { attentionParameters } from "../device/attention-call.js";
import { batchHeader } from "../device/batch-buffer.js";
import { addressed, batch, header } from "./common-fields.js";
import { type KernelParameters, kernelParameters } from "./parameters.js";
import { attend, product } from "./plain-parameters.js";
import { type KernelBlock, narrowTypes, tensorBlocks, tensorHeads, tensorTiles } from "./tensor-blocks.js";
import { tensorAttend, tensorProduct } from "./tensor-parameters.js";

/** The kernels by their files: the argument of each, the threads of its blocks, and the functions that a file holds. */

const formats = [...narrowTypes, "float32"];
/** Weight rows and input rows of a warp. */
const productShapes = ["2_4", "2_8"];
/** Weight rows of a warp; the last merges split attention. */
const rowProductShapes = ["1", "2", "merge"];
const ofFormats = (shapes: readonly string[]) =>
  formats.flatMap((format) => shapes.map((shape) => `${format}_${shape}`));
/** Lanes of a key, and query heads that share it. */
const attentionVariants = [8, 16, 32].flatMap((lanes) => [2, 4].map((heads) => `${lanes}_${heads}`));

export const kernelTable = {
  embedding: kernelFile(
    kernelParameters("EmbeddingParameters", {
      ...batch,
      weights: "const void*",
      output: "void*",
      columns: "u32",
      vocabulary: "u32",
      format: "u32",
    }),
    64,
  ),
  rmsnorm: kernelFile(
    kernelParameters("NormParameters", {
      input: "const float*",
      gain: "const float*",
      output: "float*",
      narrow: "uint2*",
      width: "u32",
      format: "u32",
      epsilon: "f32",
      inputStride: "u32",
      inputOffset: "u32",
      outputStride: "u32",
      outputOffset: "u32",
      gainOffset: "u32",
    }),
    128,
  ),
  product: kernelFile(product, 128, ofFormats(productShapes)),
  "row-product": kernelFile(product, 256, ofFormats(rowProductShapes)),
  tiles: kernelFile(product, 256, ["float32"]),
  "tensor-product": kernelFile(tensorProduct, tensorBlocks(tensorTiles)),
  pointwise: kernelFile(
    kernelParameters("PointwiseParameters", {
      ...header,
      first: "const float*",
      second: "const float*",
      output: "float*",
      operation: "u32",
      columns: "u32",
      perSequence: "u32",
      factor: "f32",
      firstStride: "u32",
      firstOffset: "u32",
      secondStride: "u32",
      secondOffset: "u32",
    }),
    128,
  ),
  rotate: kernelFile(
    kernelParameters("RotateParameters", {
      ...batch,
      input: "const float*",
      angles: "const float2*",
      output: "void*",
      heads: "u32",
      headDim: "u32",
      inputStride: "u32",
      inputOffset: "u32",
      format: "u32",
    }),
    64,
  ),
  append: kernelFile(
    kernelParameters("AppendParameters", {
      ...addressed,
      input: "const void*",
      cache: "void*",
      heads: "u32",
      headDim: "u32",
      inputStride: "u32",
      inputHeadStride: "u32",
      inputOffset: "u32",
      format: "u32",
      holdsValues: "u32",
    }),
    64,
  ),
  "rotate-append": kernelFile(
    kernelParameters("RotateAppendParameters", {
      ...addressed,
      packed: "const float*",
      keys: "void*",
      values: "void*",
      rotated: "void*",
      rotatedKeys: "void*",
      gains: "const float*",
      angles: "const float2*",
      heads: "u32",
      kvHeads: "u32",
      headDim: "u32",
      lanes: "u32",
      format: "u32",
      rotatedFormat: "u32",
      epsilon: "f32",
    }),
    256,
  ),
  convert: kernelFile(
    kernelParameters("ConvertParameters", {
      input: "const void*",
      output: "void*",
      columns: "u32",
      inputStride: "u32",
      inputOffset: "u32",
      inputFormat: "u32",
      outputFormat: "u32",
    }),
    64,
  ),
  "page-table": kernelFile(
    kernelParameters("PageTableParameters", { ...batch, indptr: "int*", indices: "int*", lastPageLen: "int*" }),
    32,
  ),
  "attention-decode": kernelFile(
    attend,
    256,
    // Bits of the cache's elements.
    [16, 32].flatMap((bits) => attentionVariants.map((variant) => `${bits}_${variant}`)),
  ),
  "attention-prefill": kernelFile(attend, 128, attentionVariants),
  "attention-tensor": kernelFile(tensorAttend, tensorBlocks(tensorHeads)),
  "attention-merge": kernelFile(
    kernelParameters("MergeParameters", {
      ...header,
      input: "const float*",
      inputLse: "const float*",
      output: "float*",
      lse: "float*",
      headDim: "u32",
      states: "u32",
      headsLast: "u32",
    }),
    64,
  ),
  argmax: kernelFile(
    kernelParameters("ArgmaxParameters", {
      ...batch,
      logits: "const float*",
      sampling: "const Sampling*",
      best: "uint4*",
      vocabulary: "u32",
      parts: "u32",
    }),
    256,
  ),
  "select-token": kernelFile(
    kernelParameters("SelectParameters", {
      ...header,
      best: "const uint4*",
      batch: "int*",
      history: "uint2*",
      parts: "u32",
      historyWidth: "u32",
      historySteps: "u32",
      advance: "u32",
    }),
    32,
  ),
  "top-p": kernelFile(
    kernelParameters("TopPParameters", {
      ...header,
      logits: "const float*",
      sampling: "Sampling*",
      vocabulary: "u32",
    }),
    256,
  ),
  "read-bandwidth": kernelFile(
    kernelParameters("ReadParameters", { input: "const uint4*", output: "unsigned*", chunks: "u32" }),
    256,
  ),
} as const;

export type KernelName = keyof typeof kernelTable;
export const kernelNames = Object.keys(kernelTable) as KernelName[];
/** Blocks of parameters that the host shares with every back end. */
export const sharedBlocks = [batchHeader, attentionParameters];

export interface KernelFile<Parameters = KernelParameters> {
  readonly parameters: Parameters;
  /** By the endings of the functions' names; an empty one where there is one function, named as the file. */
  readonly variants: Readonly<Record<string, KernelBlock>>;
}

/** Functions that a kernel's file holds. */
export function functionsOf(name: KernelName): string[] {
  return Object.keys(kernelTable[name].variants).map((variant) => functionName(name, variant));
}

export function functionName(name: KernelName, variant: string): string {
  const base = name.replaceAll("-", "_");
  return variant === "" ? base : `${base}_${variant}`;
}

/** @param blocks threads of every function's blocks, or the block of each variant. */
function kernelFile<const Parameters>(
  parameters: Parameters,
  blocks: number | Readonly<Record<string, KernelBlock>>,
  variants: readonly string[] = [""],
): KernelFile<Parameters> {
  if (typeof blocks !== "number") return { parameters, variants: blocks };
  const block = { threads: blocks, sharedBytes: 0 };
  return { parameters, variants: Object.fromEntries(variants.map((variant) => [variant, block])) };
}
