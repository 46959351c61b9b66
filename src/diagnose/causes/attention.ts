import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import type { CauseKind, Hypothesis } from "./hypothesis.js";
import { masks, type Rewrite } from "./mask.js";
import { merges } from "./merge.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";
import { quantisedProbabilities } from "./quantised-probabilities.js";
import { scores } from "./score.js";
import { replaced } from "./transform.js";

/** Attention: scale, cap, mask, window, head mapping, operands. */
export const attentionCauses: CauseFamily = (proposal) => {
  const { site } = proposal;
  if (site.op.kind !== "attention") return [];
  const a = site.op.attributes as unknown as AttentionAttributes;
  const one = (
    cause: string,
    kind: CauseKind,
    transform: string,
    change: Partial<AttentionAttributes>,
    statement: string,
    parameters = {},
    fitted = 0,
    heldOut?: (row: number, column: number) => boolean,
  ) =>
    hypothesis(cause, site, [replaced(site, { op: attention({ ...a, ...change }) })], {
      kind,
      transform,
      statement,
      parameters,
      fitted,
      ...(heldOut && { heldOut }),
      group: `${cause} ${JSON.stringify(parameters)}`,
    });
  return [
    ...scores(a, one, proposal),
    ...masks(a, one, proposal),
    ...merges(one, proposal),
    ...quantisedProbabilities(one, proposal),
    ...headMaps(a, one),
    ...operands(proposal),
  ];
};

function headMaps(a: AttentionAttributes, one: Rewrite): Hypothesis[] {
  const { heads, keyValueHeads } = a;
  const group = heads / keyValueHeads;
  if (keyValueHeads === 1) return [];
  const out: Hypothesis[] = [];
  const add = (cause: string, title: string, keyHeadOf: (head: number) => number) => {
    if (Array.from({ length: heads }, (_, h) => keyHeadOf(h) === Math.floor(h / group)).every(Boolean)) return;
    out.push(
      one(cause, "kernel", "T3", { keyHeadOf }, title, {
        map: Array.from({ length: heads }, (_, h) => keyHeadOf(h)).join(" "),
      }),
    );
    out.push(one(`${cause}`, "kernel", "T3", { valueHeadOf: keyHeadOf }, `${title} (values only)`, { values: "only" }));
    out.push(
      one(
        `${cause}`,
        "kernel",
        "T3",
        { keyHeadOf, valueHeadOf: (head) => Math.floor(head / group) },
        `${title} (keys only)`,
        { keys: "only" },
      ),
    );
  };
  add(
    "gqa-tiled",
    `query head h reads key/value head h mod ${keyValueHeads}, not ⌊h/${group}⌋`,
    (head) => head % keyValueHeads,
  );
  add("gqa-head-zero", "every query head reads key/value head 0", () => 0);
  for (let shift = 1; shift < keyValueHeads; shift++) {
    add(
      "gqa-shifted",
      `query heads read the key/value head ${shift} further on`,
      (head) => (Math.floor(head / group) + shift) % keyValueHeads,
    );
  }
  add("gqa-reversed", "key/value heads are read in reverse", (head) => keyValueHeads - 1 - Math.floor(head / group));
  return out;
}

/** Other values where q, K or V belong: unrotated ones, another layer's, K for V. */
function operands({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const [q, k, v] = site.inputs as [string, string, string];
  const out: Hypothesis[] = [];
  const swap = (
    cause: string,
    inputs: string[],
    statement: string,
    transform = "T12",
    kind: CauseKind = "seam",
    parameters = {},
  ) => {
    if (inputs.some((name) => !(graph.find(name) !== undefined))) return;
    out.push(hypothesis(cause, site, [replaced(site, { inputs })], { kind, transform, statement, parameters }));
  };
  const beforeRope = (rope: string) => graph.find(rope)?.inputs[0] ?? "";
  const key = graph.node(k).inputs[0] ?? k;
  swap("query-unrotated", [beforeRope(q), k, v], "attention reads queries without RoPE");
  swap("key-unrotated", [q, beforeRope(key), v], "attention reads keys without RoPE");
  swap("operands-unrotated", [beforeRope(q), beforeRope(key), v], "attention reads queries and keys without RoPE");
  swap("key-value-swapped", [q, v, k], "attention reads keys as values and values as keys");
  swap("operand-swapped", [q, k, k], "attention reads keys as values", "T12", "seam", { used: "keys as values" });
  swap("operand-swapped", [q, v, v], "attention reads values as keys", "T12", "seam", { used: "values as keys" });
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
  const layer = site.layer ?? 0;
  for (let other = 0; other < investigation.config.layerCount; other++) {
    if (other === layer) continue;
    const at = (name: string) => name.replace(`.layers.${layer}.`, `.layers.${other}.`);
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
          kind: "state",
          transform: "T12",
          statement: `${lastName(site.name)} attends over the ${what} of layer ${other}`,
          parameters: { ...relative, what },
          group: `${group} ${what}`,
        }),
      );
    }
  }
  return out;
}
