import { storedRows } from "./code-rows.js";
import { e2m1 } from "./fp4-numbers.js";
import { globalScaleMisreadings, halvesExchanged, scaleMisreadings } from "./misreadings.js";
import { operandsOf } from "./operands.js";
import type { ScaledLayout } from "./scaled-weight.js";
import type { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

/** Elements that share an fp8 scale. */
const group = 16;

/** e2m1 in halves of bytes, the lower one first, an e4m3 scale per group, and one float32 for all of them. */
function layoutOf(stored: StoredWeight, codes: string, global: string, divides: boolean): ScaledLayout {
  const { name, shape } = stored.typed(codes, ["uint8"], 2);
  const [rows, bytes] = shape as [number, number];
  const columns = bytes * 2;
  if (columns % group !== 0) {
    throw stored.fault(codes, `rows of a multiple of ${group / 2} bytes`, `[${shape.join(", ")}]`);
  }
  const groups = columns / group;
  stored.shaped(".weight_scale", ["float8_e4m3fn"], [rows, groups]);
  stored.shaped(global, ["float32"], [1], []);
  return {
    shape: [rows, columns],
    bits: 4,
    numbers: e2m1,
    bandRows: 1,
    groupColumns: group,
    arithmetic: "float32",
    dtype: "bfloat16",
    operands: operandsOf(stored),
    misreadings: [
      ...scaleMisreadings("weight_scale", { bands: rows, groups }),
      ...globalScaleMisreadings(global.slice(1)),
      halvesExchanged(codes.slice(1)),
    ],
    load: () => ({
      codes: storedRows(bytes, (first, count) => stored.checkpoint.bytes(name, first, count)),
      scales: { values: stored.values(".weight_scale"), bandStride: groups, groupStride: 1 },
      global: { value: stored.values(global)[0]!, divides },
    }),
  };
}

/**
 * NVFP4 whose global scale divides the groups' scales. Reference: compressed-tensors' `nvfp4-pack-quantized`: products in
 * float32, kept in bfloat16. https://github.com/vllm-project/compressed-tensors
 */
export const nvfp4: WeightFormat = {
  id: "nvfp4",
  title: "NVFP4",
  methods: ["compressed-tensors"],
  parts: [".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale"],
  parameter: ".weight",
  claims: (found) => found.get(".weight_packed") === "uint8" && found.has(".weight_global_scale"),
  layout: (stored) => layoutOf(stored, ".weight_packed", ".weight_global_scale", true),
};

/** The same in ModelOpt's names: `weight_scale_2` multiplies. https://github.com/NVIDIA/TensorRT-Model-Optimizer */
export const modeloptNvfp4: WeightFormat = {
  id: "modelopt-nvfp4",
  title: "NVFP4 of ModelOpt",
  methods: ["modelopt", "modelopt_fp4"],
  parts: [".weight", ".weight_scale", ".weight_scale_2", ".input_scale"],
  parameter: ".weight",
  claims: (found) => found.get(".weight") === "uint8" && found.has(".weight_scale_2"),
  layout: (stored) => layoutOf(stored, ".weight", ".weight_scale_2", false),
};
