import { type DType, decode, encode } from "../tensor/dtype.js";
import { awq, gptq, packedInt4 } from "./four-bit-codecs.js";
import { mxfp4, nvfp4 } from "./fp4-codecs.js";
import { clamped, compressed, scalesOf, size, tensor, type WeightCodec } from "./kept-weight.js";

function fp8(height: number, width: number, scaleName: string, dtype: DType, config: object): WeightCodec {
  return {
    config: { ...config },
    keep(values, outputs, inputs) {
      const { scales, shape, of } = scalesOf(values, inputs, height, Math.min(width, inputs), 448, dtype);
      const bytes = encode(
        values.map((x, i) => x / of(Math.floor(i / inputs), i % inputs)),
        "float8_e4m3fn",
      );
      const numbers = decode(bytes, "float8_e4m3fn");
      return {
        tensors: [
          { name: ".weight", dtype: "float8_e4m3fn", shape: [outputs, inputs], bytes },
          tensor(scaleName, dtype, shape, scales),
        ],
        number: (output, input) => numbers[output * inputs + input]!,
        scale: of,
        rounded: [dtype],
      };
    },
  };
}

const int8: WeightCodec = {
  config: compressed("int-quantized", { num_bits: 8, type: "int", strategy: "channel" }),
  keep(values, outputs, inputs) {
    const { scales, of } = scalesOf(values, inputs, 1, inputs, 127, "bfloat16");
    const numbers = values.map((x, i) => clamped(x / of(Math.floor(i / inputs), 0), -128, 127));
    return {
      tensors: [
        tensor(".weight", "int8", [outputs, inputs], numbers),
        tensor(".weight_scale", "bfloat16", [outputs, 1], scales),
      ],
      number: (output, input) => numbers[output * inputs + input]!,
      scale: of,
      rounded: ["bfloat16"],
    };
  },
};

/** One scale per weight, and one of its operand that was fixed beforehand, unlike those of other modules. */
const fp8Tensor: WeightCodec = {
  config: compressed(
    "float-quantized",
    { num_bits: 8, type: "float", strategy: "tensor" },
    { num_bits: 8, type: "float", strategy: "tensor", dynamic: false, symmetric: true },
  ),
  keep(values, outputs, inputs) {
    const kept = fp8(outputs, Infinity, ".weight_scale", "float32", {}).keep(values, outputs, inputs);
    const inputScale = 0.03 * (1 + (Math.abs(values[0]!) % 0.1));
    return { ...kept, tensors: [...kept.tensors, tensor(".input_scale", "float32", [1], [inputScale])] };
  },
};

const perToken = { num_bits: 8, type: "float", strategy: "token", dynamic: true, symmetric: true };

/** The formats a tiny model can be kept in. */
export const weightCodecs = {
  "fp8-blocks": fp8(size, size, ".weight_scale_inv", "float32", {
    quant_method: "fp8",
    activation_scheme: "dynamic",
    weight_block_size: [size, size],
    modules_to_not_convert: ["lm_head"],
  }),
  "fp8-rows": fp8(1, Infinity, ".weight_scale", "bfloat16", {
    ...compressed("float-quantized", { num_bits: 8, type: "float", strategy: "channel" }, perToken),
  }),
  "fp8-tensor": fp8Tensor,
  int8,
  "packed-int4": packedInt4,
  awq,
  gptq,
  mxfp4,
  nvfp4,
} as const satisfies Record<string, WeightCodec>;

export type CodecId = keyof typeof weightCodecs;
