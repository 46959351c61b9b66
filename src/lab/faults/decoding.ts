import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { RowTable } from "../../spec/rows.js";
import { choose, type Fault, fault, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { attributesOf, dependent, gathered, spoilt, withOp } from "../rewrite.js";

/** Tokens that a row's sequence adds in the row's step. */
function added(table: RowTable, row: number): number {
  const step = table.steps[table.stepOf[row]!]!;
  const b = table.sequenceOf[row]!;
  return step.qoIndptr[b + 1]! - step.qoIndptr[b]!;
}

/** What goes wrong between one step and the next. */
export const decodingFaults: readonly Fault[] = [
  fault({
    id: "I56-newest-unwritten",
    title: "decode steps do not write their key or value",
    kind: "state",
    transform: "T14",
    situation: "decode-batch",
    expected: ["cache-unwritten"],
    parameters: (random) => ({ cache: choose(random, ["k", "v"]) }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph, values }, layer) {
      const op = gathered((row, _, table) => (added(table, row) === 1 ? undefined : {}));
      return { nodes: spoilt(graph, `${layerPath(layer).attn}.${values.cache}_cache`, op) };
    },
  }),
  fault({
    id: "I56-newest-stale",
    title: "decode steps leave their predecessor's key or value",
    kind: "state",
    transform: "T12",
    situation: "decode-batch",
    expected: ["cache-stale"],
    parameters: (random) => ({ cache: choose(random, ["k", "v"]) }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph, values }, layer) {
      const op = gathered((row, _, table) =>
        added(table, row) === 1 && table.position[row]! > 0 ? { row: table.keyRow(row, table.position[row]! - 1) } : {},
      );
      return { nodes: spoilt(graph, `${layerPath(layer).attn}.${values.cache}_cache`, op) };
    },
  }),
  fault({
    id: "I24-history-unseen",
    title: "a chunk does not see earlier chunks",
    kind: "kernel",
    transform: "T4",
    situation: "chunked",
    expected: ["history-unseen"],
    applies: (config, _store, layer) => config.windowLeft(layer) === undefined,
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph }, layer) {
      const name = `${layerPath(layer).attn}.o_proj.input`;
      const a = attributesOf<AttentionAttributes>(graph, name);
      const op = dependent("attention", ({ rows: table }) =>
        handAttention(a, {
          visible(row, position) {
            const step = table.steps[table.stepOf[row]!]!;
            const first = table.position[step.firstRow + step.qoIndptr[table.sequenceOf[row]!]!]!;
            return added(table, row) === 1 || position >= first;
          },
        }),
      );
      return { nodes: [withOp(graph, name, op)] };
    },
  }),
];
