import { type DType, decode } from "../../tensor/dtype.js";
import { storedRows } from "./code-rows.js";
import { declaredBlock } from "./config.js";
import { scaleMisreadings } from "./misreadings.js";
import { operandsOf } from "./operands.js";
import { exponents, tileOf } from "./scale-tiles.js";
import type { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

const allCodes = Uint8Array.from({ length: 256 }, (_, code) => code);
const types = ["float8_e4m3fn", "float8_e5m2"] as const satisfies DType[];
const scaleOf = (stored: StoredWeight) => (stored.has(".weight_scale_inv") ? ".weight_scale_inv" : ".weight_scale");

/**
 * fp8 weights, a float scale (or a power of two in a byte) per tensor, output channel or block; `weight_scale_inv` is a
 * factor as well, for all its name. Reference: transformers' FineGrainedFP8 (product in float32) and compressed-tensors'
 * `float-quantized` (product in the scale's type). https://huggingface.co/docs/transformers/quantization/finegrained_fp8
 */
export const fp8: WeightFormat = {
  id: "fp8",
  title: "fp8 with scales",
  methods: ["fp8", "fbgemm_fp8", "compressed-tensors", "modelopt"],
  parts: [".weight", ".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale"],
  parameter: ".weight",
  claims: (found) =>
    types.some((dtype) => dtype === found.get(".weight")) &&
    (found.has(".weight_scale_inv") || found.has(".weight_scale")),
  layout(stored) {
    const { name, dtype, shape } = stored.typed(".weight", types, 2);
    const [rows, columns] = shape as [number, number];
    const part = scaleOf(stored);
    const scale = stored.typed(part, ["float32", "bfloat16", "float16", "uint8"]);
    const tile = tileOf(stored, part, [rows, columns], declaredBlock(stored.config));
    const inBytes = scale.dtype === "uint8";
    const own = stored.config.quant_method === "compressed-tensors" && !inBytes ? scale.dtype : "float32";
    return {
      shape: [rows, columns],
      bits: 8,
      numbers: decode(allCodes, dtype),
      bandRows: tile.rows,
      groupColumns: tile.columns,
      arithmetic: own,
      dtype: own,
      operands: operandsOf(stored),
      hasTensorScale: dtype === "float8_e4m3fn" && !inBytes && tile.bands * tile.groups === 1,
      misreadings: scaleMisreadings(part.slice(1), tile),
      load: () => ({
        codes: storedRows(columns, (first, count) => stored.checkpoint.bytes(name, first, count)),
        scales: {
          values: inBytes ? exponents(stored.values(part)) : stored.values(part),
          bandStride: tile.groups,
          groupStride: 1,
        },
      }),
    };
  },
};
