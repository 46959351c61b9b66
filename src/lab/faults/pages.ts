import type { Graph, GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { PlacedStep, RowTable } from "../../spec/rows.js";
import { type Fault, fault, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import type { PageMetadata } from "../paged-cache.js";
import { attributesOf, dependent, withOp } from "../rewrite.js";

/** Whether every sequence of the step adds one token to those it has. */
const decodes = ({ rowCount, seqIds, lengths }: PlacedStep) =>
  rowCount === seqIds.length && lengths.every((length) => length > 1);

const attentionOutputs = ({ layerCount }: ModelConfig) =>
  Array.from({ length: layerCount }, (_, layer) => `${layerPath(layer).attn}.o_proj.input`);

/** Attention of every layer that reads the keys at those positions alone. */
function attentionThatSees(
  graph: Graph,
  config: ModelConfig,
  visible: (table: RowTable, row: number, position: number) => boolean,
): GraphNode[] {
  return attentionOutputs(config).map((name) => {
    const a = attributesOf<AttentionAttributes>(graph, name);
    const op = dependent("attention", ({ rows: table }) =>
      handAttention(a, { visible: (row, position) => visible(table, row, position) }),
    );
    return withOp(graph, name, op);
  });
}

/** What the host says of pages, wrongly, and attention believes. */
export const pageFaults: readonly Fault[] = [
  fault({
    id: "I50-last-page-length",
    title: "decode steps build the last page's length before the new token is counted",
    kind: "metadata",
    transform: "T4",
    scope: "model",
    situation: "paged",
    expected: ["last-page-length"],
    hiddenWhen: "no decode step",
    firstBad: ({ config }) => ["kv_last_page_len", ...attentionOutputs(config)],
    inject({ graph, config }) {
      const nodes = attentionThatSees(graph, config, (table, row, position) => {
        const decoding = decodes(table.steps[table.stepOf[row]!]!);
        return !decoding || position < table.keyCount(row) - 1;
      });
      return {
        nodes,
        pages: (metadata, step) =>
          decodes(step)
            ? { ...metadata, kv_last_page_len: metadata.kv_last_page_len.map((length) => length - 1) }
            : metadata,
      };
    },
  }),
  fault({
    id: "I50-plan-stale",
    title: "decode is planned once: later steps read the page table of the first",
    kind: "metadata",
    transform: "T18",
    scope: "model",
    situation: "paged",
    // With one step that is run again, and no page due in it, the last pages' lengths are all there is to see.
    expected: ["page-table-stale", "last-page-length"],
    hiddenWhen: "fewer than two decode steps",
    firstBad: ({ config }) => ["kv_indptr", ...attentionOutputs(config)],
    inject({ graph, config }) {
      const nodes = attentionThatSees(graph, config, (table, row, position) => {
        const planned = table.steps.find(decodes);
        const step = table.steps[table.stepOf[row]!]!;
        return !planned || !decodes(step) || position < planned.lengths[table.sequenceOf[row]!]!;
      });
      let planned: PageMetadata | undefined;
      return {
        nodes,
        pages: (metadata, step) => {
          if (!decodes(step)) return metadata;
          planned ??= metadata;
          return { ...planned, slot_mapping: metadata.slot_mapping };
        },
      };
    },
  }),
];
