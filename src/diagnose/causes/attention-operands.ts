import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { operandCauses } from "./operand.js";
import { hypothesesOf, lastName, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** What attention reads for queries, keys and values. */
export const attentionOperandCauses = {
  "query-unrotated": {
    kind: "seam",
    transform: "T12",
    legend: "Attention reads queries as they were before RoPE, although RoPE was applied.",
    hiddenBy: "position 0",
    confusedWith: ["rope-missing", "key-unrotated"],
  },
  "key-unrotated": {
    kind: "seam",
    transform: "T12",
    legend: "Attention reads keys as they were before RoPE; the rotated ones only go to the cache, or nowhere.",
    hiddenBy: "position 0",
    confusedWith: ["rope-missing", "cached-before-rope"],
    report: [
      "sgl-project/sglang#19636",
      "the rotated keys went to the cache, attention over the prompt read the others",
    ],
  },
  "operands-unrotated": {
    kind: "seam",
    transform: "T12",
    legend: "Attention reads queries and keys as they were before RoPE.",
    hiddenBy: "position 0",
    confusedWith: ["rope-missing", "query-unrotated"],
  },
  "key-value-swapped": {
    kind: "seam",
    transform: "T12",
    legend: "Keys stand where values belong and values where keys do: in attention, in the cache or in the weights.",
    hiddenBy: "never",
    confusedWith: ["operand-swapped", "heads-interleaved"],
  },
  "query-unnormalised": {
    kind: "seam",
    transform: "T12",
    legend: "Attention reads queries as they were before their norm and RoPE.",
    hiddenBy: "heads of mean square 1 at position 0",
    confusedWith: ["query-unrotated", "norm-missing"],
  },
  "key-unnormalised": {
    kind: "seam",
    transform: "T12",
    legend: "Attention reads keys as they were before their norm and RoPE.",
    hiddenBy: "heads of mean square 1 at position 0",
    confusedWith: ["key-unrotated", "norm-missing"],
  },
  "cache-of-other-layer": {
    kind: "state",
    transform: "T12",
    legend: "Attention reads keys or values of another layer.",
    hiddenBy: "never",
    confusedWith: ["weight-from-other-layer", "operand-swapped"],
    report: ["sgl-project/sglang#19107", "layers with a window wrote by the index of another pool than they read"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...attentionOperandCauses, ...operandCauses });
type OperandCause = keyof typeof attentionOperandCauses | "operand-swapped";
const isAttention = ofKind("attention");

export const attentionOperandSearches: readonly Search[] = [
  {
    causes: [
      "query-unrotated",
      "key-unrotated",
      "operands-unrotated",
      "key-value-swapped",
      "operand-swapped",
      "query-unnormalised",
      "key-unnormalised",
    ],
    stage: "large",
    appliesTo: isAttention,
    rewrites: operands,
  },
  { causes: ["cache-of-other-layer"], stage: "large", appliesTo: isAttention, rewrites: otherLayers },
];

/** Other values where q, K or V belong: unrotated ones, another layer's, K for V. */
function operands({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const [q, k, v] = site.inputs as [string, string, string];
  const out: Hypothesis[] = [];
  const swap = (cause: OperandCause, inputs: string[], statement: string, parameters = {}) => {
    if (inputs.some((name) => graph.find(name) === undefined)) return;
    out.push(hypothesis(cause, site, [replaced(site, { inputs })], { statement, parameters }));
  };
  const beforeRope = (rope: string) => graph.find(rope)?.inputs[0] ?? "";
  const key = graph.node(k).inputs[0] ?? k;
  swap("query-unrotated", [beforeRope(q), k, v], "attention reads queries without RoPE");
  swap("key-unrotated", [q, beforeRope(key), v], "attention reads keys without RoPE");
  swap("operands-unrotated", [beforeRope(q), beforeRope(key), v], "attention reads queries and keys without RoPE");
  swap("key-value-swapped", [q, v, k], "attention reads keys as values and values as keys");
  swap("operand-swapped", [q, k, k], "attention reads keys as values", { used: "keys as values" });
  swap("operand-swapped", [q, v, v], "attention reads values as keys", { used: "values as keys" });
  const queryNorm = beforeRope(q);
  if (graph.find(queryNorm)?.op.kind === "rmsnorm") {
    swap(
      "query-unnormalised",
      [graph.node(queryNorm).inputs[0]!, k, v],
      "attention reads queries before their norm and RoPE",
    );
    swap(
      "key-unnormalised",
      [q, graph.node(beforeRope(key)).inputs[0]!, v],
      "attention reads keys before their norm and RoPE",
    );
  }
  return out;
}

/** Keys, values or both of another layer. */
function otherLayers({ site, investigation }: Proposal): Hypothesis[] {
  const [q, k, v] = site.inputs as [string, string, string];
  const { graph } = investigation;
  const key = graph.node(k).inputs[0] ?? k;
  const out: Hypothesis[] = [];
  const layer = site.layer ?? 0;
  for (let other = 0; other < investigation.config.layerCount; other++) {
    if (other === layer) continue;
    const at = (name: string) => graph.inLayer(graph.node(name), other)!.name;
    const recorded = investigation.observations.has(at(key)) || investigation.observations.has(at(k));
    // Where not even the attention was recorded, those of the layer before are computed; later ones rest on this one.
    const near = !investigation.observations.has(site.name) && other === layer - 1;
    if (!recorded && !near) continue;
    const relative = { layer: other, offset: other - layer };
    const cause = "cache-of-other-layer";
    const group = `${cause} ${other - layer}`;
    for (const [inputs, what] of [
      [[q, at(k), at(v)], "keys and values"],
      [[q, at(k), v], "keys"],
      [[q, k, at(v)], "values"],
    ] as const) {
      out.push(
        hypothesis(cause, site, [replaced(site, { inputs: [...inputs] })], {
          statement: `${lastName(site.name)} attends over the ${what} of layer ${other}`,
          parameters: { ...relative, what },
          group: `${group} ${what}`,
        }),
      );
    }
  }
  return out;
}
