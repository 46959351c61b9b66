import { emptyBlock, type Op } from "../../spec/op.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { roundTo } from "../../tensor/dtype.js";
import { choose, type Fault, type FaultContext, fault, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { inParts, type NarrowType, storedAs } from "../narrow.js";
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

/** Input 0 with each row, or all rows of the step together, in narrow numbers. */
function narrowInput(type: NarrowType, part: "tensor" | "row" | number): Op {
  return {
    kind: "narrowed",
    attributes: {},
    evaluate(context, rows, columns) {
      const width = context.width(0);
      const out = emptyBlock(rows.length * columns.length, false);
      rows.forEach((row, r) => {
        const all = part === "tensor" ? context.rows.rowsOf(context.rows.stepOf[row]!) : Int32Array.of(row);
        const values = Array.from(context.input(0, all).value);
        const kept = inParts(values, part === "tensor" ? values.length : part === "row" ? width : part, type);
        const start = all.indexOf(row) * width;
        columns.forEach((column, c) => {
          out.value[r * columns.length + c] = kept[start + column]!;
        });
      });
      return out;
    },
  };
}

export const quantisationFaults: readonly Fault[] = [
  fault({
    id: "T09-weight-quantised",
    title: "a weight in narrow numbers",
    kind: "parameter",
    transform: "T9",
    expected: ["weight-quantised"],
    parameters: (random) => ({
      projection: choose(random, projections),
      type: choose(random, ["e4m3", "e5m2", "int8", "int4"]),
      part: choose(random, ["tensor", "row"]),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = `${chosen(context, layer)}.weight`;
      const { shape, values } = wholeParameter(context.parameters, name);
      const { type, part } = context.values;
      const size = part === "row" ? shape[1]! : values.length;
      const kept = inParts(Array.from(values), size, type as NarrowType);
      return { parameters: new Map([[name, { shape, values: storedAs(kept, context.store) }]]) };
    },
  }),
  fault({
    id: "T09-activation-quantised",
    title: "the operand of a product in narrow numbers",
    kind: "kernel",
    transform: "T9",
    expected: ["activation-quantised"],
    parameters: (random) => ({
      projection: choose(random, projections),
      type: choose(random, ["e4m3", "int8"]),
      part: choose(random, ["tensor", "row"]),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const product = context.graph.node(chosen(context, layer));
      const operand = context.graph.node(product.inputs[0]!);
      const op = narrowInput(context.values.type as NarrowType, context.values.part as "tensor" | "row");
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
      const part = values.part === "head" ? config.headDim : (values.part as "tensor" | "row");
      const op = narrowInput(values.type as NarrowType, part);
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
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph }, layer) {
      const name = `${layerPath(layer).attn}.o_proj.input`;
      const weights = (exponentials: readonly number[]) => exponentials.map((x) => roundTo(x, "float8_e4m3fn"));
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
    applies: (_config, store) => store !== "float32",
    parameters: (random) => ({
      projection: choose(random, projections),
      terms: choose(random, [1, 8, 16]),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const { graph, parameters, store, values } = context;
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
              total = roundTo(total + part, store);
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
