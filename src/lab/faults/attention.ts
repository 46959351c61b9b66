import type { ModelConfig } from "../../spec/models/config.js";
import { append } from "../../spec/ops/append.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { RowTable } from "../../spec/rows.js";
import { readAsOther } from "../bits.js";
import { choose, type Fault, type FaultValues, fault, integer, layerPath } from "../fault.js";
import { type HandAttention, handAttention } from "../hand-attention.js";
import { attributesOf, dependent, elementwise, gathered, spoilt, withOp } from "../rewrite.js";

const output = (layer: number) => `${layerPath(layer).attn}.o_proj.input`;
const grouped = (config: ModelConfig) => config.keyValueHeadCount > 1 && config.headCount > config.keyValueHeadCount;

/** A fault that attends otherwise. */
function attending(
  definition: Pick<Fault, "id" | "title" | "kind" | "transform" | "expected"> &
    Partial<Fault> & {
      settings?: readonly Record<string, number | string>[];
      change: (attributes: AttentionAttributes, values: FaultValues, table: RowTable) => HandAttention;
    },
): Fault {
  const { change, settings = [{}], ...rest } = definition;
  return fault({
    hiddenWhen: "rows with one key",
    parameters: (random) => choose(random, settings),
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, values }, layer) {
      const attributes = attributesOf<AttentionAttributes>(graph, output(layer));
      const op = dependent("attention", ({ rows }) => handAttention(attributes, change(attributes, values, rows)));
      return { nodes: [withOp(graph, output(layer), op)] };
    },
    ...rest,
  });
}

const heads = (which: FaultValues["operand"], map: (head: number) => number): HandAttention => ({
  ...(which !== "values" && { keyHead: map }),
  ...(which !== "keys" && { valueHead: map }),
});
const isInWindow = ({ windowLeft }: AttentionAttributes, query: number, key: number) =>
  windowLeft === undefined || key >= query - windowLeft;
const operands = [{ operand: "both" }, { operand: "keys" }, { operand: "values" }];

export const attentionFaults: readonly Fault[] = [
  attending({
    id: "I53-gqa-tiled",
    title: "query head h reads key head h mod heads",
    kind: "kernel",
    transform: "T3",
    expected: ["gqa-tiled"],
    hiddenWhen: "one key/value head, or as many as query heads",
    applies: grouped,
    settings: operands,
    change: (a, { operand }) => heads(operand, (head) => head % a.keyValueHeads),
  }),
  attending({
    id: "I53-gqa-head-zero",
    title: "every query head reads key head 0",
    kind: "kernel",
    transform: "T3",
    expected: ["gqa-head-zero"],
    hiddenWhen: "one key/value head",
    applies: (config) => config.keyValueHeadCount > 1,
    settings: operands,
    change: (_, { operand }) => heads(operand, () => 0),
  }),
  attending({
    id: "I54-softmax-scale",
    title: "another scale on the scores",
    kind: "parameter",
    transform: "T7",
    expected: ["softmax-scale"],
    settings: [{ scale: "none" }, { scale: "squared" }, { scale: "hidden" }, { scale: "double" }, { scale: "base2" }],
    change: (a, { scale }) => {
      const factors: Record<string, number> = {
        none: 1,
        squared: a.scale ** 2,
        hidden: 1 / Math.sqrt(a.headDim * a.heads),
        double: 2 * a.scale,
        base2: a.scale * Math.LOG2E,
      };
      const factor = factors[String(scale)]! / a.scale;
      return { score: (score) => score * factor };
    },
  }),
  attending({
    id: "I55-soft-cap",
    title: "scores capped",
    kind: "seam",
    transform: "T7",
    expected: ["soft-cap"],
    hiddenWhen: "scores far below the cap",
    settings: [{ cap: 50 }, { cap: 5 }, { cap: 1 }],
    change: (_, { cap }) => ({ score: (score) => Number(cap) * Math.tanh(score / Number(cap)) }),
  }),
  attending({
    id: "I55-attention-sink",
    title: "an extra logit in the denominator",
    kind: "seam",
    transform: "T6",
    expected: ["attention-sink"],
    hiddenWhen: "never",
    settings: [{ sink: 0 }, { sink: 1 }, { sink: -2 }],
    change: (_, { sink }) => ({ sink: Number(sink) }),
  }),
  attending({
    id: "I56-causal-top-left",
    title: "causal mask counted from the chunk",
    kind: "seam",
    transform: "T4",
    situation: "chunked",
    expected: ["causal-top-left"],
    hiddenWhen: "as many queries as keys",
    change: (a, _, table) => ({
      mask(query, key, row) {
        const step = table.steps[table.stepOf[row]!]!;
        const place = row - step.firstRow - step.qoIndptr[table.sequenceOf[row]!]!;
        return key <= place && (a.windowLeft === undefined || key >= place - a.windowLeft) && key <= query;
      },
    }),
  }),
  attending({
    id: "I56-causal-strict",
    title: "a query does not see its own key",
    kind: "seam",
    transform: "T4",
    expected: ["causal-strict"],
    hiddenWhen: "never",
    change: (a) => ({ mask: (query, key) => key < query && isInWindow(a, query, key) }),
  }),
  attending({
    id: "I56-causal-missing",
    title: "no causal mask",
    kind: "seam",
    transform: "T4",
    expected: ["causal-missing"],
    hiddenWhen: "last rows",
    change: (a) => ({ mask: (query, key) => isInWindow(a, query, key) }),
  }),
  attending({
    id: "I56-causal-ahead",
    title: "a query sees one key too many",
    kind: "seam",
    transform: "T4",
    expected: ["causal-ahead"],
    hiddenWhen: "last rows",
    change: (a) => ({ mask: (query, key) => key <= query + 1 && isInWindow(a, query, key) }),
  }),
  attending({
    id: "I57-window",
    title: "a window that is not meant, or one key off",
    kind: "kernel",
    transform: "T4",
    expected: ["window"],
    hiddenWhen: "rows before the window",
    settings: [{ window: 4 }, { window: 8 }, { window: 1 }],
    change(a, { window }) {
      const left = a.windowLeft === undefined ? Number(window) : a.windowLeft + (Number(window) > 4 ? -1 : 1);
      return { mask: (query, key) => key <= query && key >= query - left };
    },
  }),
  attending({
    id: "I57-window-absent",
    title: "the model's window is not applied",
    kind: "seam",
    transform: "T4",
    expected: ["window", "window-missing"],
    hiddenWhen: "rows before the window",
    applies: (config, _store, layer) => config.windowLeft(layer) !== undefined,
    change: () => ({ mask: (query, key) => key <= query }),
  }),
  attending({
    id: "I50-newest-key-unseen",
    title: "sequence length one short: the newest key of the sequence is not read",
    kind: "metadata",
    transform: "T4",
    expected: ["key-length-short"],
    hiddenWhen: "rows before the last",
    change: (_a, _values, table) => ({
      visible: (row, position) => table.keyCount(row) === 1 || position < table.keyCount(row) - 1,
    }),
  }),
  attending({
    id: "C9.01-key-tile-skipped",
    title: "every second tile of keys is skipped",
    kind: "kernel",
    transform: "T4",
    expected: ["keys-skipped"],
    hiddenWhen: "fewer keys than a tile",
    settings: [{ tile: 8 }, { tile: 4 }],
    change: (_, { tile }) => ({ visible: (_row, position) => Math.floor(position / Number(tile)) % 2 === 0 }),
  }),
  fault({
    id: "I42-dtype-bits",
    title: "16-bit cache read as the other 16-bit type",
    kind: "seam",
    transform: "T8",
    expected: ["dtype-bits"],
    applies: (_, store) => store === "bfloat16" || store === "float16",
    parameters: (random) => ({ cache: choose(random, ["k", "v"]) }),
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, store, values }, layer) {
      const name = `${layerPath(layer).attn}.${values.cache}_cache`;
      return { nodes: spoilt(graph, name, readAsOther(store as "bfloat16" | "float16")) };
    },
  }),
  fault({
    id: "I43-cache-scale",
    title: "scale of the cache missed or squared",
    kind: "seam",
    transform: "T6",
    expected: ["cache-scale", "softmax-scale", "scaled"],
    hiddenWhen: "keys: rows with one key",
    parameters: (random) => ({ cache: choose(random, ["k", "v"]), factor: choose(random, [2, 0.25, 1.5]) }),
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, values }, layer) {
      const name = `${layerPath(layer).attn}.${values.cache}_cache`;
      const op = elementwise(1, ([x]) => x! * Number(values.factor));
      return { nodes: spoilt(graph, name, op) };
    },
  }),
  fault({
    id: "I40-caches-swapped",
    title: "attention reads keys as values and values as keys",
    kind: "seam",
    transform: "T12",
    expected: ["key-value-swapped", "operand-swapped"],
    firstBad: (_, layer) => [output(layer)],
    inject({ graph }, layer) {
      const node = graph.node(output(layer));
      const [q, k, v] = node.inputs as [string, string, string];
      return { nodes: [{ ...node, inputs: [q, v, k] }] };
    },
  }),
  fault({
    id: "I35-layout-misread",
    title: "keys written token by token, read head by head",
    kind: "seam",
    transform: "T1",
    expected: ["strides-ignored"],
    hiddenWhen: "one row",
    applies: (config) => config.keyValueHeadCount > 1,
    parameters: (random) => ({ cache: choose(random, ["k", "v"]) }),
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, config, values }, layer) {
      const { attn } = layerPath(layer);
      const { keyValueHeadCount, headDim } = config;
      const op = gathered((row, column, table) => {
        const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
        const flat = Math.floor(column / headDim) * rowCount + (row - firstRow);
        const head = flat % keyValueHeadCount;
        return { row: firstRow + Math.floor(flat / keyValueHeadCount), column: head * headDim + (column % headDim) };
      });
      return { nodes: spoilt(graph, `${attn}.${values.cache}_cache`, op) };
    },
  }),
  fault({
    id: "I12-stale-operand",
    title: "attention reads the queries of the layer before",
    kind: "seam",
    transform: "T12",
    expected: ["cache-of-other-layer", "operand-swapped"],
    applies: (_config, _store, layer) => layer > 0,
    parameters: (random) => ({ operand: integer(random, 0, 2) }),
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, values }, layer) {
      const { inputs } = graph.node(output(layer));
      const which = Number(values.operand);
      const own = graph.node(inputs[which]!);
      const before = graph.inLayer(own, layer - 1)!;
      if (which > 0) return { nodes: [{ ...own, op: append(), inputs: before.inputs }] };
      return { nodes: [{ ...graph.node(output(layer)), inputs: [before.name, ...inputs.slice(1)] }] };
    },
  }),
  fault({
    id: "I61-batch-rows-zero",
    title: "every second sequence of the batch gets zeros",
    kind: "kernel",
    transform: "T14",
    situation: "several-sequences",
    expected: ["rows-unwritten"],
    hiddenWhen: "one sequence",
    parameters: (random) => ({ parity: choose(random, [0, 1]) }),
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, values }, layer) {
      const op = gathered((row, _, table) => (table.sequenceOf[row]! % 2 === values.parity ? undefined : {}));
      return { nodes: spoilt(graph, output(layer), op) };
    },
  }),
  fault({
    id: "C9.02-upper-channels-unwritten",
    title: "upper half of each head never written",
    kind: "kernel",
    transform: "T14",
    expected: ["columns-unwritten"],
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, config }, layer) {
      const op = gathered((_, column) => (column % config.headDim < config.headDim / 2 ? {} : undefined));
      return { nodes: spoilt(graph, output(layer), op) };
    },
  }),
];
