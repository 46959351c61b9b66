import type { DType } from "../tensor/dtype.js";
import { clamped, compressed, scalesOf, size, tensor, type WeightCodec } from "./kept-weight.js";

/** Levels 0 to 15 with a zero point per group of a row: of (output, input), each. */
function levels(values: Float64Array, inputs: number, scaleType: DType) {
  const { scales, of } = scalesOf(values, inputs, 1, size, 7, scaleType);
  const across = inputs / size;
  const zeros = scales.map((_, i) => 5 + (i % 6));
  const zero = (output: number, input: number) => zeros[output * across + Math.floor(input / size)]!;
  const codes = values.map((x, i) => {
    const [output, input] = [Math.floor(i / inputs), i % inputs];
    return clamped(x / of(output, input) + zero(output, input), 0, 15);
  });
  return { scales, zeros, codes, of, zero, across };
}

/** Eight fields of 4 bits per word: field k of word w is `field(w, k)`. */
function words(count: number, field: (word: number, k: number) => number): Int32Array {
  const out = new Int32Array(count);
  for (let w = 0; w < count; w++) for (let k = 0; k < 8; k++) out[w]! |= field(w, k) << (4 * k);
  return out;
}

export const packedInt4: WeightCodec = {
  config: compressed("pack-quantized", {
    num_bits: 4,
    type: "int",
    strategy: "group",
    group_size: size,
    symmetric: false,
  }),
  keep(values, outputs, inputs) {
    const { scales, zeros, codes, of, zero, across } = levels(values, inputs, "bfloat16");
    const zeroWords = words(
      (outputs / 8) * across,
      (w, k) => zeros[(Math.floor(w / across) * 8 + k) * across + (w % across)]!,
    );
    return {
      tensors: [
        tensor(
          ".weight_packed",
          "int32",
          [outputs, inputs / 8],
          words(codes.length / 8, (w, k) => codes[w * 8 + k]!),
        ),
        tensor(".weight_scale", "bfloat16", [outputs, across], scales),
        tensor(".weight_zero_point", "int32", [outputs / 8, across], zeroWords),
        tensor(".weight_shape", "int64", [2], [outputs, inputs]),
      ],
      number: (output, input) => codes[output * inputs + input]! - 8,
      zero: (output, input) => zero(output, input) - 8,
      scale: of,
      rounded: ["bfloat16"],
    };
  },
};

/** Output in each field of AWQ's words. */
export const awqOutputs = [0, 2, 4, 6, 1, 3, 5, 7];

/** [outputs, columns] as [columns, outputs]. */
function turned(values: Float64Array, outputs: number): Float64Array {
  const columns = values.length / outputs;
  return values.map((_, i) => values[(i % outputs) * columns + Math.floor(i / outputs)]!);
}

export const awq: WeightCodec = {
  config: { quant_method: "awq", bits: 4, group_size: size, zero_point: true, version: "gemm" },
  keep(values, outputs, inputs) {
    const { scales, zeros, codes, of, zero, across } = levels(values, inputs, "float16");
    const perRow = outputs / 8;
    const packed = (of: Float64Array) => {
      const flat = turned(of, outputs);
      return words(
        flat.length / 8,
        (w, k) => flat[Math.floor(w / perRow) * outputs + (w % perRow) * 8 + awqOutputs[k]!]!,
      );
    };
    return {
      tensors: [
        tensor(".qweight", "int32", [inputs, perRow], packed(codes)),
        tensor(".qzeros", "int32", [across, perRow], packed(zeros)),
        tensor(".scales", "float16", [across, outputs], turned(scales, outputs)),
      ],
      number: (output, input) => codes[output * inputs + input]!,
      zero,
      scale: of,
      rounded: ["float16"],
    };
  },
};

/** Inputs belong to groups by another order than their own, as with desc_act; every group has some. */
export const gptqGroup = (input: number, inputs: number) => (input * 7) % (inputs / size);

export const gptq: WeightCodec = {
  config: { quant_method: "gptq", bits: 4, group_size: size, desc_act: true, sym: false, checkpoint_format: "gptq" },
  keep(values, outputs, inputs) {
    const { scales, zeros, across } = levels(values, inputs, "float16");
    const at = (output: number, input: number) => output * across + gptqGroup(input, inputs);
    const codes = values.map((x, i) => {
      const place = at(Math.floor(i / inputs), i % inputs);
      return clamped(x / scales[place]! + zeros[place]!, 0, 15);
    });
    const flatZeros = turned(zeros, outputs);
    return {
      tensors: [
        tensor(
          ".qweight",
          "int32",
          [inputs / 8, outputs],
          words((inputs / 8) * outputs, (w, k) => codes[(w % outputs) * inputs + Math.floor(w / outputs) * 8 + k]!),
        ),
        tensor(
          ".qzeros",
          "int32",
          [across, outputs / 8],
          words(flatZeros.length / 8, (w, k) => flatZeros[w * 8 + k]! - 1),
        ),
        tensor(".scales", "float16", [across, outputs], turned(scales, outputs)),
        tensor(
          ".g_idx",
          "int32",
          [inputs],
          Array.from({ length: inputs }, (_, i) => gptqGroup(i, inputs)),
        ),
      ],
      number: (output, input) => codes[output * inputs + input]!,
      zero: (output, input) => zeros[at(output, input)]!,
      scale: (output, input) => scales[at(output, input)]!,
      rounded: ["float16"],
    };
  },
};
