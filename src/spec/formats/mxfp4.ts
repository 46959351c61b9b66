import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";
import { storedRows } from "./code-rows.js";
import { e2m1 } from "./fp4-numbers.js";
import { halvesExchanged, scaleMisreadings } from "./misreadings.js";
import { operandsOf } from "./operands.js";
import { exponents } from "./scale-tiles.js";
import { type ScaledLayout, ScaledWeight } from "./scaled-weight.js";
import type { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

/** Elements that share a power of two. */
const group = 32;

/** A weight [rows, columns] of e2m1 in halves of bytes, the lower one first, and of exponents in bytes. */
function layoutOf(stored: StoredWeight, codes: string, scale: string, rows: number, columns: number): ScaledLayout {
  const groups = columns / group;
  const { name } = stored.entry(codes);
  const perRow = columns / 2;
  const perFirst = (rows * perRow) / stored.entry(codes).shape[0]!;
  return {
    shape: [rows, columns],
    bits: 4,
    numbers: e2m1,
    bandRows: 1,
    groupColumns: group,
    arithmetic: "bfloat16",
    dtype: "bfloat16",
    operands: operandsOf(stored),
    misreadings: [...scaleMisreadings(scale.slice(1), { bands: rows, groups }), halvesExchanged(codes.slice(1))],
    load: () => ({
      codes: storedRows(perRow, (first, count) => {
        const from = Math.floor((first * perRow) / perFirst);
        const end = Math.ceil(((first + count) * perRow) / perFirst);
        const bytes = stored.checkpoint.bytes(name, from, end - from);
        const start = first * perRow - from * perFirst;
        return bytes.subarray(start, start + count * perRow);
      }),
      scales: { values: exponents(stored.values(scale)), bandStride: groups, groupStride: 1 },
    }),
  };
}

/**
 * MXFP4 experts as gpt-oss keeps them: `_blocks` [experts, outputs, groups, 16] and `_scales` [experts, outputs, groups]
 * make the parameter [experts, inputs, outputs]. Reference: transformers' integration, in bfloat16.
 * https://huggingface.co/docs/transformers/quantization/mxfp4
 */
export const mxfp4Experts: WeightFormat = {
  id: "mxfp4-experts",
  title: "MXFP4 experts",
  methods: ["mxfp4"],
  parts: ["_blocks", "_scales"],
  parameter: "",
  claims: (found) => found.get("_blocks") === "uint8" && found.has("_scales"),
  layout(stored) {
    const { shape } = stored.typed("_blocks", ["uint8"], 4);
    const [experts, outputs, groups, bytes] = shape as [number, number, number, number];
    if (bytes !== group / 2) throw stored.fault("_blocks", `groups of ${group / 2} bytes`, `[${shape.join(", ")}]`);
    stored.shaped("_scales", ["uint8"], [experts, outputs, groups]);
    return layoutOf(stored, "_blocks", "_scales", experts * outputs, groups * group);
  },
  arrange(stored, layout, memory) {
    const [experts, outputs] = stored.entry("_blocks").shape as [number, number];
    return turnedExperts(new ScaledWeight(stored.name, layout, memory), experts, outputs);
  },
};

/** A matrix [experts · outputs, inputs] as the parameter [experts, inputs, outputs]. */
function turnedExperts(matrix: QuantisedParameter, experts: number, outputs: number): QuantisedParameter {
  const inputs = matrix.shape[1]!;
  return {
    shape: [experts, inputs, outputs],
    dtype: matrix.dtype,
    operands: matrix.operands,
    misreadings: matrix.misreadings,
    misread: (misread) => turnedExperts(matrix.misread(misread), experts, outputs),
    rows(first, count, rounding) {
      const out = new Float64Array(count * inputs * outputs);
      for (let e = 0; e < count; e++) {
        const own = matrix.rows((first + e) * outputs, outputs, rounding);
        const at = e * inputs * outputs;
        for (let o = 0; o < outputs; o++)
          for (let i = 0; i < inputs; i++) out[at + i * outputs + o] = own[o * inputs + i]!;
      }
      return out;
    },
  };
}

/** MXFP4 of a matrix [outputs, inputs]: compressed-tensors' `mxfp4-pack-quantized`, in bfloat16. */
export const mxfp4: WeightFormat = {
  id: "mxfp4",
  title: "MXFP4",
  methods: ["compressed-tensors"],
  parts: [".weight_packed", ".weight_scale"],
  parameter: ".weight",
  claims: (found) =>
    found.get(".weight_packed") === "uint8" &&
    found.get(".weight_scale") === "uint8" &&
    !found.has(".weight_global_scale"),
  layout(stored) {
    const { shape } = stored.typed(".weight_packed", ["uint8"], 2);
    const [rows, bytes] = shape as [number, number];
    if ((bytes * 2) % group !== 0) {
      throw stored.fault(".weight_packed", `rows of a multiple of ${group / 2} bytes`, `[${shape.join(", ")}]`);
    }
    stored.shaped(".weight_scale", ["uint8"], [rows, (bytes * 2) / group]);
    return layoutOf(stored, ".weight_packed", ".weight_scale", rows, bytes * 2);
  },
};
