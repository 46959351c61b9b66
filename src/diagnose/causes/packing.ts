import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { packedParts } from "./layout.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** How queries, keys and values lie in one weight. */
export const packingCauses = {
  "heads-interleaved": {
    kind: "parameter",
    transform: "T1",
    legend: "A packed QKV weight is interleaved by key/value group and read as blocks, or the reverse.",
    hiddenBy: "one key/value head with as many query heads",
    confusedWith: ["gqa-tiled", "heads-permuted", "key-value-swapped"],
    report: ["vllm-project/vllm#53114", "QKV packed by group was split as blocks"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(packingCauses);

export const packingSearches: readonly Search[] = [
  { causes: ["heads-interleaved"], stage: "named", appliesTo: ofKind("linear"), rewrites: packing },
];

/** A packed QKV weight, interleaved by key/value group and read as blocks, or the reverse. */
function packing({ site, investigation }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  const [query, key, value] = packedParts(investigation.graph, site);
  if (!query || !key || !value) return [];
  const own = [query, key, value].find(({ name }) => name === site.name);
  if (!own) return [];
  const { headCount, keyValueHeadCount, headDim } = investigation.config;
  const group = headCount / keyValueHeadCount;
  const blocks = [...heads(query, headCount), ...heads(key, keyValueHeadCount), ...heads(value, keyValueHeadCount)];
  const interleaved = Array.from({ length: keyValueHeadCount }, (_, g) => [
    ...Array.from({ length: group }, (_, i) => ({ part: query, head: g * group + i })),
    { part: key, head: g },
    { part: value, head: g },
  ]).flat();
  const out: Hypothesis[] = [];
  for (const [stored, read, title] of [
    [interleaved, blocks, "interleaved by group but split as q|k|v blocks"],
    [blocks, interleaved, "in q|k|v blocks but split as interleaved groups"],
  ] as const) {
    const sourceOf = (column: number) => {
      const index = read.findIndex(({ part, head }) => part === own && head === Math.floor(column / headDim));
      return { ...stored[index]!, channel: column % headDim };
    };
    const op: Op = {
      kind: "linear",
      attributes: { ...a, packing: title },
      evaluate(context, rows, columns) {
        const out = {
          value: new Float64Array(rows.length * columns.length),
          variance: new Float64Array(rows.length * columns.length),
        };
        for (const part of [query, key, value]) {
          const members = [...columns.keys()].filter((c) => sourceOf(columns[c]!).part === part);
          if (members.length === 0) continue;
          const from = Int32Array.from(
            members,
            (c) => sourceOf(columns[c]!).head * headDim + sourceOf(columns[c]!).channel,
          );
          const { weight, bias } = part.op.attributes as unknown as LinearAttributes;
          const block = linear({ weight, bias }).evaluate(context, rows, from);
          members.forEach((c, m) => {
            for (let r = 0; r < rows.length; r++) {
              out.value[r * columns.length + c] = block.value[r * members.length + m]!;
              out.variance[r * columns.length + c] = block.variance[r * members.length + m]!;
            }
          });
        }
        return out;
      },
    };
    out.push(
      hypothesis("heads-interleaved", site, [replaced(site, { op })], {
        parameters: { packing: title },
        statement: `the packed QKV weight is stored ${title}: heads of q, k and v are exchanged`,
      }),
    );
  }
  return out;

  function heads(part: GraphNode, count: number) {
    return Array.from({ length: count }, (_, head) => ({ part, head }));
  }
}
