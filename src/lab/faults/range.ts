import { choose, type Fault, type FaultContext, fault, integer, layerPath } from "../fault.js";
import { elementwise, rowInStep, spoilt } from "../rewrite.js";

const values = ["self_attn.v_proj", "mlp.up_proj", "mlp.gate_proj", "mlp.down_proj"];
const chosen = (context: FaultContext, layer: number) => `${layerPath(layer).path}.${context.values.value}`;

/** Values that were cut off, and single ones that somebody wrote over. */
export const rangeFaults: readonly Fault[] = [
  fault({
    id: "T10-clamped",
    title: "a clamp that the model does not have",
    kind: "kernel",
    transform: "T10",
    expected: ["clamped"],
    hiddenWhen: "values within the limit",
    parameters: (random) => ({ value: choose(random, values), limit: choose(random, [0.25, 0.5, 1]) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const limit = Number(context.values.limit);
      const op = elementwise(1, ([x]) => Math.max(-limit, Math.min(limit, x!)));
      return { nodes: spoilt(context.graph, chosen(context, layer), op) };
    },
  }),
  fault({
    id: "T14-element-wrong",
    title: "one element that something else wrote",
    kind: "environment",
    transform: "T14",
    expected: ["element-wrong"],
    parameters: (random) => ({
      value: choose(random, values),
      row: integer(random, 1, 23),
      column: integer(random, 0, 31),
      holds: choose(random, [7, -3]),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const { row, column, holds } = context.values;
      const op = elementwise(1, ([x], at, c, table) =>
        rowInStep(table, at) === row && c === column ? Number(holds) : x!,
      );
      return { nodes: spoilt(context.graph, chosen(context, layer), op) };
    },
  }),
];
