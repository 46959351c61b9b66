import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import type { CauseKind, Hypothesis } from "../hypothesis.js";
import { short } from "../hypothesis.js";
import { replaced } from "../transform.js";
import { masks, type Rewrite } from "./mask.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";

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
  ) =>
    hypothesis(cause, site, [replaced(site, { op: attention({ ...a, ...change }) })], {
      kind,
      transform,
      statement,
      parameters,
      fitted,
      group: `${cause} ${JSON.stringify(parameters)}`,
    });
  return [...scales(a, one, proposal), ...masks(a, one, proposal), ...headMaps(a, one), ...operands(proposal)];
};

function scales(a: AttentionAttributes, one: Rewrite, { investigation }: Proposal): Hypothesis[] {
  const d = a.headDim;
  const { hiddenSize } = investigation.config;
  const named = new Map<number, string>([
    [1, "1: the scale is missing"],
    [1 / d, "1/head_dim: applied twice"],
    [d ** -0.25, "head_dim^-1/4: applied to one side of a pair"],
    [1 / Math.sqrt(2 * d), "1/sqrt(2 head_dim)"],
    [1 / Math.sqrt(d / 2), "1/sqrt(head_dim/2)"],
    [1 / Math.sqrt(hiddenSize), "1/sqrt(hidden_size)"],
    [1 / Math.sqrt(hiddenSize / a.heads), "1/sqrt(hidden_size/heads)"],
    [Math.LN2 / Math.sqrt(d), "ln 2/sqrt(head_dim): a base-2 softmax without log2(e)"],
    [Math.LOG2E / Math.sqrt(d), "log2(e)/sqrt(head_dim): a natural softmax with it"],
  ]);
  for (const width of [32, 64, 80, 96, 128, 192, 256]) named.set(1 / Math.sqrt(width), `1/sqrt(${width})`);
  const out: Hypothesis[] = [];
  for (const [scale, title] of named) {
    if (Math.abs(scale / a.scale - 1) < 1e-6) continue;
    out.push(
      one("softmax-scale", "parameter", "T7", { scale }, `scores are scaled by ${title}, not by ${short(a.scale)}`, {
        scale,
        expected: a.scale,
      }),
    );
  }
  for (const factor of [0.25, 0.5, 0.8, 0.9, 1.1, 1.2, 1.25, 1.5, 2, 3, 4, 8, 16]) {
    if ([...named.keys()].some((scale) => Math.abs(scale / (a.scale * factor) - 1) < 1e-6)) continue;
    out.push(
      one(
        "softmax-scale",
        "parameter",
        "T7",
        { scale: a.scale * factor },
        `scores are scaled by ${short(a.scale * factor)}, ${factor} times the model's scale`,
        { scale: a.scale * factor, expected: a.scale },
      ),
    );
  }
  for (const softCap of [2, 5, 8, 10, 15, 20, 30, 50, 100]) {
    if (softCap !== a.softCap)
      out.push(
        one(
          "soft-cap",
          "parameter",
          "T7",
          { softCap },
          `scores pass through a soft cap of ${softCap} that the model does not have`,
          { softCap },
        ),
      );
  }
  if (a.softCap)
    out.push(one("soft-cap-missing", "parameter", "T7", { softCap: undefined }, "the soft cap on scores is missing"));
  for (const sink of [-2, -1, 0, 1, 2, 3, 4]) {
    out.push(
      one(
        "attention-sink",
        "kernel",
        "T6",
        { sink },
        `the softmax counts a key that is not there (an attention sink, or one zero score too many: logit ${sink})`,
        { logit: sink },
      ),
    );
  }
  return out;
}

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
    if (!investigation.observations.has(at(key)) && !investigation.observations.has(at(k))) continue;
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
