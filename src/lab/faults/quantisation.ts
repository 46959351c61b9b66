import { emptyBlock, type Op } from "../../spec/op.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { type DType, roundTo } from "../../tensor/dtype.js";
import { choose, type Fault, type FaultContext, fault, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { type NarrowType, narrowed, narrowedMatrix, type SharedScale, storedAs } from "../narrow.js";
import { wholeParameter } from "../overlay.js";
import { attributesOf, meant, withOp } from "../rewrite.js";

const projections = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
];
const chosen = ({ values }: FaultContext, layer: number) => `${layerPath(layer).path}.${values.projection}`;

/** Input 0 in narrow numbers, the rows of a step as one matrix. */
function narrowInput(type: NarrowType, shared: SharedScale): Op {
  return {
    kind: "narrowed",
    attributes: {},
    evaluate(context, rows, columns) {
      const width = context.width(0);
      const out = emptyBlock(rows.length * columns.length, false);
      const kept = new Map<number, Float64Array>();
      const keptBy = (step: number) => {
        const all = context.rows.rowsOf(step);
        const found = kept.get(step) ?? narrowedMatrix(context.input(0, all).value, width, type, shared);
        kept.set(step, found);
        return found;
      };
      rows.forEach((row, r) => {
        const step = context.rows.stepOf[row]!;
        const start = (row - context.rows.steps[step]!.firstRow) * width;
        columns.forEach((column, c) => {
          out.value[r * columns.length + c] = keptBy(step)[start + column]!;
        });
      });
      return out;
    },
  };
}

/** Types and what shares a scale, as kernels and checkpoints have them. */
const weightTypes: readonly (readonly [NarrowType, SharedScale])[] = [
  ["e4m3", "tensor"],
  ["e4m3", "row"],
  ["e4m3", "block"],
  ["e4m3", "none"],
  ["e5m2", "tensor"],
  ["e5m2", "row"],
  ["int8", "tensor"],
  ["int8", "row"],
  ["int8", 32],
  ["int4", "tensor"],
  ["int4", "row"],
  ["int4", 32],
  ["int4", 64],
  ["int4", 128],
];
const activationTypes: readonly (readonly [NarrowType, SharedScale])[] = [
  ["e4m3", "tensor"],
  ["e4m3", "row"],
  ["e4m3", 128],
  ["e4m3", "none"],
  ["e5m2", "tensor"],
  ["e5m2", "row"],
  ["int8", "tensor"],
  ["int8", "row"],
  ["int8", 32],
  ["int4", "row"],
];
const drawn = (random: () => number, types: typeof weightTypes) => {
  const [type, part] = choose(random, types);
  return { type, part };
};
const typeOf = ({ values }: FaultContext) => values.type as NarrowType;
const sharedOf = ({ values }: FaultContext) => values.part as SharedScale;

/** A fault of one projection, with the types it may be in. */
const ofProjection = (types: typeof weightTypes): Pick<Fault, "parameters" | "firstBad"> => ({
  parameters: (random) => ({ projection: choose(random, projections), ...drawn(random, types) }),
  firstBad: (context, layer) => [chosen(context, layer)],
});

export const quantisationFaults: readonly Fault[] = [
  fault({
    id: "T09-weight-quantised",
    title: "a weight in narrow numbers",
    kind: "parameter",
    transform: "T9",
    expected: ["weight-quantised"],
    ...ofProjection(weightTypes),
    inject(context, layer) {
      const name = `${chosen(context, layer)}.weight`;
      const { shape, values } = wholeParameter(context.parameters, name);
      const kept = narrowedMatrix(values, shape[1]!, typeOf(context), sharedOf(context));
      return { parameters: new Map([[name, { shape, values: storedAs(kept, context.store) }]]) };
    },
  }),
  fault({
    id: "T09-activation-quantised",
    title: "the operand of a product in narrow numbers",
    kind: "kernel",
    transform: "T9",
    expected: ["activation-quantised"],
    ...ofProjection(activationTypes),
    inject(context, layer) {
      const product = context.graph.node(chosen(context, layer));
      const operand = context.graph.node(product.inputs[0]!);
      const op = narrowInput(typeOf(context), sharedOf(context));
      const narrow = { ...operand, name: `${product.name} narrowed`, op, inputs: [operand.name] };
      return { nodes: [narrow, { ...product, inputs: [narrow.name] }] };
    },
  }),
  fault({
    id: "T09-cache-rounded",
    title: "keys or values through narrow numbers",
    kind: "state",
    transform: "T9",
    expected: ["cache-rounded"],
    parameters: (random) => ({
      cache: choose(random, ["k", "v"]),
      type: choose(random, ["e4m3", "e5m2", "int8"]),
      part: choose(random, ["tensor", "row", "head"]),
    }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph, values, config }, layer) {
      const name = `${layerPath(layer).attn}.${values.cache}_cache`;
      const source = graph.node(graph.node(name).inputs[0]!);
      const shared = values.part === "head" ? config.headDim : (values.part as SharedScale);
      const op = narrowInput(values.type as NarrowType, shared);
      const narrow = { ...source, name: `${name} narrowed`, op, inputs: [source.name] };
      return { nodes: [narrow, { ...graph.node(name), inputs: [narrow.name] }] };
    },
  }),
  fault({
    id: "T09-probabilities-quantised",
    title: "attention probabilities in narrow numbers",
    kind: "kernel",
    transform: "T9",
    expected: ["probabilities-quantised"],
    hiddenWhen: "rows with one key",
    parameters: (random) => ({ type: choose(random, ["e4m3", "e5m2", "int8"]) }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject(context, layer) {
      const { graph } = context;
      const name = `${layerPath(layer).attn}.o_proj.input`;
      const type = typeOf(context);
      // The largest exponential is 1: the end of int8.
      const scale = type === "int8" ? 1 / 127 : 1;
      const weights = (exponentials: readonly number[]) => exponentials.map((x) => narrowed(x, type, scale));
      return {
        nodes: [withOp(graph, name, handAttention(attributesOf<AttentionAttributes>(graph, name), { weights }))],
      };
    },
  }),
  fault({
    id: "C15.14-accumulator-narrow",
    title: "a running sum in 16 bits",
    kind: "kernel",
    transform: "T16",
    expected: ["accumulator-narrow"],
    hiddenWhen: "sums whose terms come out even",
    parameters: (random) => ({
      projection: choose(random, projections),
      dtype: choose(random, ["float16", "bfloat16"]),
      terms: choose(random, [1, 8, 16]),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const { graph, parameters, values } = context;
      const node = graph.node(chosen(context, layer));
      const weight = wholeParameter(parameters, `${node.name}.weight`);
      const bias = parameters.shape(`${node.name}.bias`) && wholeParameter(parameters, `${node.name}.bias`).values;
      const n = weight.shape[1]!;
      const op: Op = {
        kind: "accumulated",
        attributes: {},
        evaluate(asked, rows, columns) {
          const x = asked.input(0, rows).value;
          const out = emptyBlock(rows.length * columns.length, false);
          for (let i = 0; i < out.value.length; i++) {
            const r = Math.floor(i / columns.length);
            const column = columns[i % columns.length]!;
            let total = 0;
            let part = 0;
            for (let k = 0; k < n; k++) {
              part = Math.fround(part + x[r * n + k]! * weight.values[column * n + k]!);
              if ((k + 1) % Number(values.terms) !== 0 && k + 1 < n) continue;
              total = roundTo(total + part, values.dtype as DType);
              part = 0;
            }
            out.value[i] = total + (bias?.[column] ?? 0);
          }
          return out;
        },
      };
      return { nodes: [meant(graph, node.name), { ...node, op }] };
    },
  }),
];
