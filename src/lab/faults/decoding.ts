import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { RowTable } from "../../spec/rows.js";
import { choose, type Fault, type FaultContext, fault, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { attributesOf, dependent, gathered, spoilt, withOp } from "../rewrite.js";

/** Tokens that a row's sequence adds in the row's step. */
function added(table: RowTable, row: number): number {
  const step = table.steps[table.stepOf[row]!]!;
  const b = table.sequenceOf[row]!;
  return step.qoIndptr[b + 1]! - step.qoIndptr[b]!;
}

/** Which cache a fault is put into. */
const drawnCache = (random: () => number) => ({ cache: choose(random, ["k", "v", "both"]) });
const caches = ({ values }: FaultContext, layer: number) =>
  (values.cache === "both" ? ["k", "v"] : [values.cache]).map((side) => `${layerPath(layer).attn}.${side}_cache`);

/** The last row of the sequence that no decode step computed. */
function lastOfPrefill(table: RowTable, row: number): number {
  let position = table.position[row]!;
  while (position > 0 && added(table, table.keyRow(row, position)) === 1) position--;
  return table.keyRow(row, position);
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
    parameters: drawnCache,
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject(context, layer) {
      const op = gathered((row, _, table) => (added(table, row) === 1 ? undefined : {}));
      return { nodes: caches(context, layer).flatMap((name) => spoilt(context.graph, name, op)) };
    },
  }),
  fault({
    id: "I56-newest-stale",
    title: "decode steps leave their predecessor's key or value, or the prefill's last",
    kind: "state",
    transform: "T12",
    situation: "decode-batch",
    expected: ["cache-stale"],
    parameters: (random) => ({ ...drawnCache(random), holds: choose(random, ["before", "prefill"]) }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject(context, layer) {
      const op = gathered((row, _, table) => {
        if (added(table, row) > 1 || table.position[row] === 0) return {};
        const before = table.keyRow(row, table.position[row]! - 1);
        return { row: context.values.holds === "before" ? before : lastOfPrefill(table, row) };
      });
      return { nodes: caches(context, layer).flatMap((name) => spoilt(context.graph, name, op)) };
    },
  }),
  fault({
    id: "C10.05-cache-of-other-sequence",
    title: "a sequence attends over the keys and values of its neighbour in the batch",
    kind: "metadata",
    transform: "T3",
    situation: "decode-batch",
    expected: ["keys-of-other-sequence"],
    applies: (config, _store, layer) => config.windowLeft(layer) === undefined,
    parameters: (random) => ({ which: choose(random, ["next", "before"]), steps: choose(random, ["all", "decode"]) }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph, values }, layer) {
      const name = `${layerPath(layer).attn}.o_proj.input`;
      const a = attributesOf<AttentionAttributes>(graph, name);
      const op = dependent("attention", ({ rows: table }) =>
        handAttention(a, {
          keysOf(row) {
            if (values.steps === "decode" && added(table, row) > 1) return row;
            const { firstRow, qoIndptr, seqIds } = table.steps[table.stepOf[row]!]!;
            const other = table.sequenceOf[row]! + (values.which === "next" ? 1 : seqIds.length - 1);
            return firstRow + qoIndptr[other % seqIds.length]!;
          },
        }),
      );
      return { nodes: [withOp(graph, name, op)] };
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
