import type { ModelConfig } from "../../spec/models/config.js";
import { choose, type Fault, type FaultContext, fault, integer, layerPath } from "../fault.js";
import { changedParameter, exchangedParameters, wholeParameter } from "../overlay.js";
import { elementwise, gathered, meant, spoilt } from "../rewrite.js";

const projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const all = [...projections, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

const chosen = ({ values }: FaultContext, layer: number) => `${layerPath(layer).path}.${values.projection}`;
const inAny = (random: () => number) => ({ projection: choose(random, all) });

/** What a buffer never written may hold: the same value of the layer before, or zeros. */
export const leftovers = ["zero", "previous"];

/** Nodes in which elements that `written` excludes keep what the buffer held before. */
export function unwritten(
  { graph, values }: FaultContext,
  name: string,
  layer: number,
  written: Parameters<typeof gathered>[0],
) {
  const before = graph.inLayer(graph.node(name), layer - 1);
  const previous = values.content === "previous" ? before : undefined;
  const op = gathered((row, column, table) => written(row, column, table) ?? (previous ? { input: 1 } : undefined));
  return spoilt(graph, name, op, previous ? [previous.name] : []);
}

function squareProjections(config: ModelConfig): string[] {
  const { hiddenSize, headDim, headCount, keyValueHeadCount } = config;
  const names: string[] = [];
  if (headCount * headDim === hiddenSize) names.push("self_attn.q_proj", "self_attn.o_proj");
  if (keyValueHeadCount * headDim === hiddenSize) names.push("self_attn.k_proj", "self_attn.v_proj");
  return names;
}

/** The projections' outputs side by side in one row, query heads first, as a packed matrix would lay them out. */
function packed({ graph, config }: FaultContext, layer: number) {
  const { attn } = layerPath(layer);
  const names = ["q", "k", "v"].map((letter) => `${attn}.${letter}_proj`);
  const widths = [config.headCount, config.keyValueHeadCount, config.keyValueHeadCount].map((n) => n * config.headDim);
  const starts = [0, widths[0]!, widths[0]! + widths[1]!];
  const place = (index: number) => {
    const input = index >= starts[2]! ? 2 : index >= starts[1]! ? 1 : 0;
    return { input, column: index - starts[input]! };
  };
  return {
    names,
    widths,
    starts,
    width: starts[2]! + widths[2]!,
    place,
    meant: names.map((name) => meant(graph, name)),
  };
}

export const linearFaults: readonly Fault[] = [
  fault({
    id: "I08-heads-interleaved",
    title: "QKV packed per group, read as blocks",
    kind: "parameter",
    transform: "T1",
    expected: ["heads-interleaved", "heads-permuted"],
    hiddenWhen: "one key/value head",
    applies: (config) => config.keyValueHeadCount > 1,
    firstBad: (context, layer) => packed(context, layer).names,
    inject(context, layer) {
      const { names, starts, place, meant: right } = packed(context, layer);
      const { headCount, keyValueHeadCount, headDim } = context.config;
      const group = headCount / keyValueHeadCount;
      const nodes = names.map((name, which) => {
        const op = gathered((_, column) => {
          const head = Math.floor((starts[which]! + column) / headDim);
          const [g, within] = [Math.floor(head / (group + 2)), head % (group + 2)];
          const flat = within < group ? g * group + within : headCount + (within === group ? 0 : keyValueHeadCount) + g;
          return place(flat * headDim + (column % headDim));
        });
        return { ...context.graph.node(name), op, inputs: right.map((node) => node.name) };
      });
      return { nodes: [...right, ...nodes] };
    },
  }),
  fault({
    id: "I09-key-value-swapped",
    title: "key and value projections exchanged",
    kind: "parameter",
    transform: "T12",
    expected: ["key-value-swapped", "operand-swapped"],
    firstBad: (_, layer) => ["k", "v"].map((letter) => `${layerPath(layer).attn}.${letter}_proj`),
    inject({ parameters }, layer) {
      const [k, v] = ["k", "v"].map((letter) => `${layerPath(layer).attn}.${letter}_proj`) as [string, string];
      return { parameters: exchangedParameters(parameters, k, v) };
    },
  }),
  fault({
    id: "I10-bias-dropped",
    title: "projection without its bias",
    kind: "parameter",
    transform: "T11",
    expected: ["bias-dropped"],
    applies: (config) => config.queryKeyValueBias,
    parameters: (random) => ({ projection: choose(random, projections) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject: (context, layer) => ({
      parameters: changedParameter(context.parameters, `${chosen(context, layer)}.bias`, () => 0),
    }),
  }),
  fault({
    id: "I10-bias-scaled",
    title: "bias added once per rank",
    kind: "seam",
    transform: "T11",
    expected: ["bias-scaled"],
    applies: (config) => config.queryKeyValueBias,
    parameters: (random) => ({ projection: choose(random, projections), factor: choose(random, [2, 4, 8]) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject: (context, layer) => ({
      parameters: changedParameter(
        context.parameters,
        `${chosen(context, layer)}.bias`,
        (b) => b * Number(context.values.factor),
      ),
    }),
  }),
  fault({
    id: "I10-additive-constant",
    title: "a bias that no checkpoint fills",
    kind: "parameter",
    transform: "T11",
    expected: ["additive-constant"],
    parameters: (random) => ({
      projection: choose(random, all),
      magnitude: choose(random, [0.25, 1, 16, 1e6]),
      seed: integer(random, 1, 1000),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const { magnitude, seed } = context.values;
      const constant = (column: number) => Number(magnitude) * Math.sin(Number(seed) * (column + 1) * 1.618);
      const op = elementwise(1, ([x], _, column) => x! + constant(column));
      return { nodes: spoilt(context.graph, chosen(context, layer), op) };
    },
  }),
  fault({
    id: "I11-weight-tile-zero",
    title: "a tile of a weight was never loaded",
    kind: "parameter",
    transform: "T19",
    expected: ["columns-unwritten"],
    parameters: (random) => ({ projection: choose(random, all), first: choose(random, [0, 0.25, 0.5]), share: 0.25 }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = `${chosen(context, layer)}.weight`;
      const rows = context.parameters.shape(name)![0]!;
      const first = Math.floor(rows * Number(context.values.first));
      const last = first + Math.floor(rows * Number(context.values.share));
      return {
        parameters: changedParameter(context.parameters, name, (w, row) => (row >= first && row < last ? 0 : w)),
      };
    },
  }),
  fault({
    id: "I11-weight-from-other-layer",
    title: "weight of the layer before",
    kind: "parameter",
    transform: "T19",
    expected: ["weight-from-other-layer"],
    applies: (_config, _store, layer) => layer > 0,
    parameters: inAny,
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = `${chosen(context, layer)}.weight`;
      const other = `${chosen(context, layer - 1)}.weight`;
      return { parameters: new Map([[name, wholeParameter(context.parameters, other)]]) };
    },
  }),
  fault({
    id: "I11-weight-transposed",
    title: "a square weight read transposed",
    kind: "parameter",
    transform: "T1",
    expected: ["weight-transposed"],
    applies: (config) => squareProjections(config).length > 0,
    parameters: (random, config) => ({ projection: choose(random, squareProjections(config)) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = `${chosen(context, layer)}.weight`;
      const { shape, values } = wholeParameter(context.parameters, name);
      const n = shape[0]!;
      return {
        parameters: changedParameter(context.parameters, name, (_, row, column) => values[column * n + row]!),
      };
    },
  }),
  fault({
    id: "I12-strides-ignored",
    title: "a slice of packed QKV read as if it were contiguous",
    kind: "seam",
    transform: "T2",
    expected: ["strides-ignored"],
    hiddenWhen: "one row",
    parameters: (random) => ({ slice: choose(random, ["q", "k", "v"]) }),
    firstBad({ values, config }, layer) {
      const { attn } = layerPath(layer);
      if (values.slice === "v") return [`${attn}.o_proj.input`];
      return [`${attn}.${values.slice}_${config.queryKeyNorm ? "norm" : "rope"}`];
    },
    inject(context, layer) {
      const { names, widths, starts, width, place } = packed(context, layer);
      const which = ["q", "k", "v"].indexOf(String(context.values.slice));
      const node = context.graph.node(names[which]!);
      const misread = {
        ...node,
        name: `${node.name} without strides`,
        inputs: names,
        op: gathered((row, column, table) => {
          const first = table.steps[table.stepOf[row]!]!.firstRow;
          const flat = starts[which]! + (row - first) * widths[which]! + column;
          return { row: first + Math.floor(flat / width), ...place(flat % width) };
        }),
      };
      const readers = context.graph.consumers(node.name).map((reader) => {
        const consumer = context.graph.node(reader);
        return { ...consumer, inputs: consumer.inputs.map((input) => (input === node.name ? misread.name : input)) };
      });
      return { nodes: [misread, ...readers] };
    },
  }),
  fault({
    id: "I14-columns-unwritten",
    title: "last columns of a product never written",
    kind: "kernel",
    transform: "T14",
    expected: ["columns-unwritten"],
    parameters: (random) => ({
      projection: choose(random, all),
      columns: choose(random, [4, 8, 24]),
      content: choose(random, leftovers),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = chosen(context, layer);
      const width = context.graph.node(name).columns - Number(context.values.columns);
      return { nodes: unwritten(context, name, layer, (_, column) => (column < width ? {} : undefined)) };
    },
  }),
  fault({
    id: "C9.13-rows-unwritten",
    title: "last rows of a product never written",
    kind: "kernel",
    transform: "T14",
    expected: ["rows-unwritten"],
    hiddenWhen: "rows a multiple of the tile",
    parameters: (random) => ({
      projection: choose(random, all),
      tile: choose(random, [7, 11]),
      content: choose(random, leftovers),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const tile = Number(context.values.tile);
      const written = (
        row: number,
        table: { steps: readonly { firstRow: number; rowCount: number }[]; stepOf: number[] },
      ) => {
        const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
        return row - firstRow < rowCount - (rowCount % tile);
      };
      return {
        nodes: unwritten(context, chosen(context, layer), layer, (row, _, table) =>
          written(row, table) ? {} : undefined,
        ),
      };
    },
  }),
  fault({
    id: "C7.09-scaled",
    title: "a weight scale missed or applied twice",
    kind: "seam",
    transform: "T6",
    expected: ["scaled"],
    parameters: (random) => ({ projection: choose(random, all), factor: choose(random, [0.5, 2, 0.0625, 448 / 240]) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const factor = Number(context.values.factor);
      return {
        nodes: spoilt(
          context.graph,
          chosen(context, layer),
          elementwise(1, ([x]) => x! * factor),
        ),
      };
    },
  }),
  fault({
    id: "C10.06-rows-shifted",
    title: "each row holds the result of the row before it",
    kind: "metadata",
    transform: "T3",
    expected: ["rows-shifted"],
    hiddenWhen: "one row",
    parameters: inAny,
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const op = gathered((row, _, table) => {
        const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
        return { row: firstRow + ((row - firstRow + rowCount - 1) % rowCount) };
      });
      return { nodes: spoilt(context.graph, chosen(context, layer), op) };
    },
  }),
];
