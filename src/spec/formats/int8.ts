import { storedRows } from "./code-rows.js";
import { scaleMisreadings, zeroPointMisreadings } from "./misreadings.js";
import { operandsOf } from "./operands.js";
import { tileOf } from "./scale-tiles.js";
import type { WeightFormat } from "./weight-format.js";

const zeroPart = ".weight_zero_point";

/**
 * int8 weights, a scale per tensor, output channel or group, with a zero point or without. Reference: compressed-tensors'
 * `int-quantized`, which multiplies in the scale's type. https://github.com/vllm-project/compressed-tensors
 */
export const int8: WeightFormat = {
  id: "int8",
  title: "int8 with scales",
  methods: ["compressed-tensors"],
  parts: [".weight", ".weight_scale", zeroPart, ".input_scale", ".input_zero_point"],
  parameter: ".weight",
  claims: (found) => found.get(".weight") === "int8" && found.has(".weight_scale"),
  layout(stored) {
    const { name, shape } = stored.typed(".weight", ["int8"], 2);
    const [rows, columns] = shape as [number, number];
    const scale = stored.typed(".weight_scale", ["float32", "bfloat16", "float16"]);
    const tile = tileOf(stored, ".weight_scale", [rows, columns]);
    if (stored.has(zeroPart)) stored.shaped(zeroPart, ["int8"], scale.shape);
    const table = (part: string) => ({ values: stored.values(part), bandStride: tile.groups, groupStride: 1 });
    return {
      shape: [rows, columns],
      bits: 8,
      numbers: Float64Array.from({ length: 256 }, (_, code) => (code < 128 ? code : code - 256)),
      bandRows: tile.rows,
      groupColumns: tile.columns,
      arithmetic: scale.dtype,
      dtype: scale.dtype,
      operands: operandsOf(stored),
      misreadings: [
        ...scaleMisreadings("weight_scale", tile),
        ...(stored.has(zeroPart) ? zeroPointMisreadings("weight_zero_point", tile) : []),
      ],
      load: () => ({
        codes: storedRows(columns, (first, count) => stored.checkpoint.bytes(name, first, count)),
        scales: table(".weight_scale"),
        zeros: stored.has(zeroPart) ? table(zeroPart) : undefined,
      }),
    };
  },
};
