import { type DType, decode } from "../../tensor/dtype.js";
import type { Injection } from "../fault.js";
import { awqOutputs, gptqGroup } from "../four-bit-codecs.js";
import { type KeptWeight, size } from "../kept-weight.js";
import type { LabModel } from "../model.js";
import { storedAs } from "../narrow.js";
import { type CodecId, weightCodecs } from "../weight-codecs.js";

type Element = (output: number, input: number) => number;

/** A runtime that takes the bytes of a quantised weight for other numbers. */
export interface FormatFault {
  readonly id: string;
  readonly title: string;
  /** Transform class T1 to T20. */
  readonly transform: string;
  /** Causes that name it rightly. */
  readonly expected: readonly string[];
  readonly codecs: readonly CodecId[];
  /** The element such a runtime multiplies with. */
  misread(kept: KeptWeight, outputs: number, inputs: number): Element;
}

const all = Object.keys(weightCodecs) as CodecId[];
const unscaled = ({ number, zero }: KeptWeight): Element => {
  return (output, input) => number(output, input) - (zero?.(output, input) ?? 0);
};
const factor = ({ global = 1 }: KeptWeight) => global;
const scales = ({ tensors }: KeptWeight) => {
  const { shape, dtype, bytes } = tensors.find(({ name }) => /scales?(_inv)?$/.test(name))!;
  return { shape: shape as [number, number], values: decode(bytes, dtype) };
};

export const formatFaults: readonly FormatFault[] = [
  {
    id: "scale-missed",
    title: "numbers taken without their scales",
    transform: "T9",
    expected: ["weight-scale-missed"],
    codecs: all,
    misread: (kept) => (output, input) => unscaled(kept)(output, input) * factor(kept),
  },
  {
    id: "scale-inverted",
    title: "numbers divided by their scales",
    transform: "T9",
    expected: ["weight-scale-inverted"],
    codecs: all,
    misread: (kept) => (output, input) => (unscaled(kept)(output, input) / kept.scale(output, input)) * factor(kept),
  },
  {
    id: "scale-transposed",
    title: "scales read along the wrong axis",
    transform: "T1",
    expected: ["weight-scale-transposed"],
    codecs: ["fp8-blocks", "packed-int4", "awq"],
    misread(kept, outputs) {
      const { shape, values } = scales(kept);
      const byOutput = shape[0] <= shape[1] && shape[1] === outputs;
      const blocks = shape[0] < outputs && !byOutput;
      return (output, input) => {
        const band = blocks ? Math.floor(output / size) : output;
        const group = Math.floor(input / size);
        const at = byOutput ? band * shape[0] + group : group * shape[0] + band;
        return unscaled(kept)(output, input) * values[at]!;
      };
    },
  },
  {
    id: "scale-of-next-group",
    title: "scales of the next group of inputs",
    transform: "T3",
    expected: ["weight-scale-shifted"],
    codecs: ["fp8-blocks", "packed-int4", "awq", "mxfp4"],
    misread(kept, outputs, inputs) {
      return (output, input) => {
        const next = input + size < inputs ? [output, input + size] : afterRow(kept, outputs, output, input);
        return unscaled(kept)(output, input) * kept.scale(next[0]!, next[1]!);
      };
    },
  },
  {
    id: "scale-of-previous-rows",
    title: "scales of the block of rows before",
    transform: "T3",
    expected: ["weight-scale-shifted"],
    codecs: ["fp8-blocks"],
    misread: (kept) => (output, input) =>
      unscaled(kept)(output, input) * kept.scale(Math.max(output - size, output % size), input),
  },
  {
    id: "global-scale-missed",
    title: "the weight's own scale left out",
    transform: "T9",
    expected: ["weight-scale-missed"],
    codecs: ["nvfp4"],
    misread: (kept) => (output, input) => unscaled(kept)(output, input) * kept.scale(output, input),
  },
  {
    id: "global-scale-inverted",
    title: "the weight's own scale multiplied where it divides",
    transform: "T9",
    expected: ["weight-scale-inverted"],
    codecs: ["nvfp4"],
    misread: (kept) => (output, input) => (unscaled(kept)(output, input) * kept.scale(output, input)) / factor(kept),
  },
  {
    id: "zero-point-missed",
    title: "zero points not taken away",
    transform: "T9",
    expected: ["weight-zero-point-missed"],
    codecs: ["packed-int4", "awq", "gptq"],
    misread: (kept) => (output, input) => kept.number(output, input) * kept.scale(output, input),
  },
  {
    id: "zero-point-off-by-one",
    title: "zero points of GPTQ's first version taken for those of its second",
    transform: "T9",
    expected: ["weight-zero-point-shifted"],
    codecs: ["gptq"],
    misread: (kept) => (output, input) => (unscaled(kept)(output, input) + 1) * kept.scale(output, input),
  },
  {
    id: "awq-order-ignored",
    title: "AWQ's words taken in sequence",
    transform: "T1",
    expected: ["weight-packing-order"],
    codecs: ["awq"],
    misread: (kept) => (output, input) => {
      const taken = output - (output % 8) + awqOutputs[output % 8]!;
      return unscaled(kept)(taken, input) * kept.scale(output, input);
    },
  },
  {
    id: "awq-order-applied",
    title: "GPTQ's words taken in AWQ's order",
    transform: "T1",
    expected: ["weight-packing-order"],
    codecs: ["gptq"],
    misread: (kept) => (output, input) => {
      const taken = input - (input % 8) + awqOutputs.indexOf(input % 8);
      return (kept.number(output, taken) - kept.zero!(output, input)) * kept.scale(output, input);
    },
  },
  {
    id: "halves-exchanged",
    title: "the halves of every byte exchanged",
    transform: "T1",
    expected: ["weight-halves-exchanged"],
    codecs: ["packed-int4", "gptq", "mxfp4", "nvfp4"],
    misread: (kept) => (output, input) => {
      const number = kept.number(output, input % 2 === 0 ? input + 1 : input - 1);
      return (number - (kept.zero?.(output, input) ?? 0)) * kept.scale(output, input) * factor(kept);
    },
  },
  {
    id: "group-order-ignored",
    title: "groups taken side by side although inputs were reordered",
    transform: "T3",
    expected: ["weight-group-order"],
    codecs: ["gptq"],
    misread(kept, _, inputs) {
      const member = (group: number) =>
        Array.from({ length: inputs }, (__, i) => i).find((i) => gptqGroup(i, inputs) === group)!;
      return (output, input) => {
        const other = member(Math.floor(input / size));
        return (kept.number(output, input) - kept.zero!(output, other)) * kept.scale(output, other);
      };
    },
  },
];

/** What a flat table of scales holds after a row's last group: the next row's first, or nothing but the own one. */
function afterRow({ tensors }: KeptWeight, outputs: number, output: number, input: number): [number, number] {
  const byInput = tensors.some(({ name }) => name === ".qweight");
  const blocks = tensors.some(({ name }) => name === ".weight_scale_inv");
  const next = blocks ? output - (output % size) + size : output + 1;
  return byInput || next >= outputs ? [output, input] : [next, 0];
}

/** The weight of one product as a runtime with the fault holds it, in `store`. */
export function misreadWeight(
  source: LabModel,
  codec: CodecId,
  name: string,
  fault: FormatFault,
  store: DType,
): Injection {
  const shape = source.parameters.shape(name) as [number, number];
  const kept = weightCodecs[codec].keep(source.parameters.rows(name, 0, shape[0]), shape[0], shape[1]);
  const element = fault.misread(kept, shape[0], shape[1]);
  const values = Float64Array.from({ length: shape[0] * shape[1] }, (_, i) =>
    element(Math.floor(i / shape[1]), i % shape[1]),
  );
  const held = [...kept.rounded, store].reduce<Float64Array>((so, dtype) => storedAs(so, dtype), values);
  return { parameters: new Map([[name, { shape, values: held }]]) };
}
