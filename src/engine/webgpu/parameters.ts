/** Scalar types a parameter block may hold; each is four bytes in WGSL and in the buffer. */
export type ScalarType = "u32" | "i32" | "f32";

/**
 * One declaration of a kernel's parameters: its WGSL struct and its bytes come from the same list, so they cannot drift.
 * All members are 4-byte scalars, so offsets are 4 × index in every address space; the size is padded to 16 bytes.
 */
export interface ParameterBlock<Name extends string = string> {
  readonly name: string;
  readonly fields: Readonly<Record<Name, ScalarType>>;
  /** The struct declaration. */
  readonly wgsl: string;
  readonly byteLength: number;
  /** @throws RangeError when a value does not fit its type. */
  pack(values: Readonly<Record<Name, number>>): Uint8Array<ArrayBuffer>;
}

export function parameterBlock<Name extends string>(
  name: string,
  fields: Readonly<Record<Name, ScalarType>>,
): ParameterBlock<Name> {
  const entries = Object.entries(fields) as [Name, ScalarType][];
  const byteLength = Math.ceil((entries.length * 4) / 16) * 16;
  return {
    name,
    fields,
    wgsl: `struct ${name} {\n${entries.map(([field, type]) => `  ${field}: ${type},`).join("\n")}\n}\n`,
    byteLength,
    pack(values) {
      const bytes = new Uint8Array(byteLength);
      const view = new DataView(bytes.buffer);
      entries.forEach(([field, type], i) => {
        const value = values[field];
        if (!fits(value, type)) throw new RangeError(`${name}.${field}: ${value} is not a ${type}`);
        if (type === "f32") view.setFloat32(i * 4, value, true);
        else if (type === "i32") view.setInt32(i * 4, value, true);
        else view.setUint32(i * 4, value, true);
      });
      return bytes;
    },
  };
}

function fits(value: number, type: ScalarType): boolean {
  if (type === "f32") return Number.isFinite(value);
  const [low, high] = type === "i32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  return Number.isInteger(value) && value >= low && value <= high;
}

/**
 * What changes from one batch to the next. Members ending in `At` are where an array starts in the batch's one buffer
 * of int32 (see `batch.ts`); the arrays are FlashInfer's.
 */
export const batchHeader = parameterBlock("BatchHeader", {
  rows: "u32",
  sequences: "u32",
  /** Tokens of one KV split of the decode kernel, and splits per sequence. */
  splitTokens: "u32",
  splitCount: "u32",
  pageSize: "u32",
  tokenIdsAt: "u32",
  positionsAt: "u32",
  slotsAt: "u32",
  qoIndptrAt: "u32",
  kvIndptrAt: "u32",
  kvLengthAt: "u32",
  kvIndicesAt: "u32",
  /** Work list of the prefill kernel: pairs (sequence, first query row within it). */
  tilesAt: "u32",
  /** Tokens generated so far in this flight, per sequence. */
  generatedAt: "u32",
});

/** How one attention call addresses its operands and masks its scores. Strides and offsets count elements. */
export const attentionParameters = parameterBlock("AttentionParameters", {
  /** sm_scale; the kernels work in base 2. */
  scale: "f32",
  /** 0: none; else scores become cap · tanh(score / cap). */
  softCap: "f32",
  /** -1: none; else a query sees at most windowLeft + 1 keys up to its own position. */
  windowLeft: "i32",
  causal: "u32",
  queryRowStride: "u32",
  queryHeadStride: "u32",
  queryOffset: "u32",
  keyPageStride: "u32",
  keySlotStride: "u32",
  keyHeadStride: "u32",
  keyOffset: "u32",
  valuePageStride: "u32",
  valueSlotStride: "u32",
  valueHeadStride: "u32",
  valueOffset: "u32",
});

/** How attention states lie that are to be merged: strides in (row, head) states of head_dim floats. */
export const mergeParameters = parameterBlock("MergeParameters", {
  count: "u32",
  rowStride: "u32",
  headStride: "u32",
  stateStride: "u32",
});
