import { compressed, scalesOf, size, tensor, type WeightCodec } from "./kept-weight.js";

const fp4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** The code of the nearest number of e2m1. */
function fp4Code(x: number): number {
  const magnitude = Math.abs(x);
  const nearest = fp4.reduce(
    (best, y, i) => (Math.abs(y - magnitude) < Math.abs(fp4[best]! - magnitude) ? i : best),
    0,
  );
  return x < 0 ? nearest + 8 : nearest;
}

function fp4Parts(values: Float64Array, outputs: number, inputs: number, scale: (i: number) => number) {
  const codes = values.map((x, i) => fp4Code(x / scale(i)));
  const bytes = Float64Array.from({ length: codes.length / 2 }, (_, b) => codes[2 * b]! | (codes[2 * b + 1]! << 4));
  return {
    packed: tensor(".weight_packed", "uint8", [outputs, inputs / 2], bytes),
    number: (output: number, input: number) => {
      const code = codes[output * inputs + input]!;
      return code < 8 ? fp4[code]! : -fp4[code - 8]!;
    },
  };
}

export const mxfp4: WeightCodec = {
  config: compressed("mxfp4-pack-quantized", { num_bits: 4, type: "float", strategy: "group", group_size: size }),
  keep(values, outputs, inputs) {
    const { scales } = scalesOf(values, inputs, 1, size, 4, "float32");
    const exponents = scales.map((s) => Math.floor(Math.log2(s)));
    const of = (output: number, input: number) => 2 ** exponents[output * (inputs / size) + Math.floor(input / size)]!;
    const { packed, number } = fp4Parts(values, outputs, inputs, (i) => of(Math.floor(i / inputs), i % inputs));
    const bytes = exponents.map((e) => e + 127);
    return {
      tensors: [packed, tensor(".weight_scale", "uint8", [outputs, inputs / size], bytes)],
      number,
      scale: of,
      rounded: ["bfloat16"],
    };
  },
};

export const nvfp4: WeightCodec = {
  config: compressed("nvfp4-pack-quantized", { num_bits: 4, type: "float", strategy: "tensor_group", group_size: 16 }),
  keep(values, outputs, inputs) {
    const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const divisor = Math.fround((448 * 6) / largest);
    const { scales, shape, of } = scalesOf(
      values.map((x) => x * divisor),
      inputs,
      1,
      16,
      6,
      "float8_e4m3fn",
    );
    const { packed, number } = fp4Parts(
      values,
      outputs,
      inputs,
      (i) => of(Math.floor(i / inputs), i % inputs) / divisor,
    );
    return {
      tensors: [
        packed,
        tensor(".weight_scale", "float8_e4m3fn", shape, scales),
        tensor(".weight_global_scale", "float32", [1], [divisor]),
      ],
      number,
      scale: of,
      global: 1 / divisor,
      rounded: ["float32", "bfloat16"],
    };
  },
};
