import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { identity } from "../../spec/ops/identity.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { freshName, hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { replaced, transformed } from "./transform.js";

/** Limits that code has, for values that were not recorded: gpt-oss clamps at 7, stable fp16 runs at the largest float16. */
const knownLimits = [0.5, 1, 2, 3, 5, 6, 7, 8, 10, 20, 30, 50, 100, 65504];

/** Ranges that values are kept in. */
export const clampCauses = {
  clamped: {
    kind: "kernel",
    transform: "T10",
    legend: "Values are cut off at a limit that the model does not have.",
    hiddenBy: "values within the limit",
    confusedWith: ["activation-wrong", "logits-soft-cap"],
    report: ["vllm-project/vllm#14126", "a clamp was put in against float16 overflow, for one of two causes"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(clampCauses);

export const clampSearches: readonly Search[] = [
  {
    causes: ["clamped"],
    stage: "named",
    appliesTo: ({ site, investigation, finding }) =>
      site.op.kind === "multiply" && investigation.hasBits(finding.node.name),
    rewrites: gatedLimits,
  },
  {
    causes: ["clamped"],
    stage: "named",
    fits: true,
    appliesTo: (proposal) => isRecorded(proposal) && !["multiply", "embedding"].includes(proposal.site.op.kind),
    rewrites: observedLimits,
  },
  {
    causes: ["clamped"],
    stage: "named",
    appliesTo: (proposal) =>
      !isRecorded(proposal) &&
      ["add", "linear"].includes(proposal.site.op.kind) &&
      !proposal.investigation.observations.has(proposal.site.name),
    rewrites: ({ site }) => knownLimits.map((limit) => clamped(site, -limit, limit, limit, 0)),
  },
];

/** The same op, its result cut off; NaN stays NaN. */
function clampedOp(op: Op, low: number, high: number): Op {
  return transformed(op, { low, high }, (block) => ({
    ...block,
    value: block.value.map((x) => (x < low ? low : x > high ? high : x)),
    variance: block.variance.map((v, i) => (block.value[i]! < low || block.value[i]! > high ? 0 : v)),
  }));
}

function clamped(site: GraphNode, low: number, high: number, limit: number, fitted: number): Hypothesis {
  const range =
    low === -Infinity ? `above ${short(high)}` : high === Infinity ? `below ${short(low)}` : `beyond ±${short(limit)}`;
  return hypothesis("clamped", site, [replaced(site, { op: clampedOp(site.op, low, high) })], {
    fitted,
    parameters: { ...(low > -Infinity && { low }), ...(high < Infinity && { high }) },
    statement: `values ${range} are cut off, which this model does not do`,
    group: `clamped ${low} ${high}`,
  });
}

/** The largest recorded number, where several elements hold exactly it and should hold more; the smallest likewise. */
function observedLimits({ site, finding }: Proposal): Hypothesis[] {
  const { observed, expected, noise } = finding.comparison;
  const limitOf = (sign: 1 | -1) => {
    let most = -Infinity;
    for (const x of observed) if (sign * x > most) most = sign * x;
    let cut = 0;
    for (let i = 0; i < observed.length; i++)
      if (sign * observed[i]! === most && sign * expected[i]! > most + 4 * noise[i]!) cut++;
    // One element alone at the limit says nothing, unless the limit is one that code has.
    const clear = cut >= (knownLimits.includes(most) ? 1 : 2);
    return clear && Number.isFinite(most) ? sign * most : sign * Infinity;
  };
  const high = limitOf(1);
  const low = limitOf(-1);
  if (high === Infinity && low === -Infinity) return [];
  // A limit of both sides need not be reached on both.
  const size = Math.min(high, -low);
  const choices = new Map<string, [number, number]>([[`${low} ${high}`, [low, high]]]);
  if (high === Infinity || low === -Infinity) choices.set("both", [-size, size]);
  return [...choices.values()].map(([from, to]) => clamped(site, from, to, size, 1));
}

/** Gate or up of a gated MLP, cut off before they are multiplied. */
function gatedLimits({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const [activated, up] = site.inputs as [string, string];
  const gate = graph.node(activated).inputs[0]!;
  const cut = (name: string, low: number, high: number): GraphNode => ({
    ...graph.node(name),
    name: freshName(graph, `${site.name}.clamped ${lastName(name)}`),
    op: clampedOp(identity(), low, high),
    inputs: [name],
  });
  return knownLimits.flatMap((limit) => {
    const upCut = cut(up, -limit, limit);
    const activatedCut = cut(activated, -Infinity, limit);
    const gateCut = cut(gate, -Infinity, limit);
    const ofGate = { ...graph.node(activated), name: `${site.name}.activated`, inputs: [gateCut.name] };
    const choices: [string, GraphNode[], string[]][] = [
      ["up", [upCut], [activated, upCut.name]],
      ["activated gate", [activatedCut], [activatedCut.name, up]],
      ["activated gate and up", [activatedCut, upCut], [activatedCut.name, upCut.name]],
      ["gate", [gateCut, ofGate], [ofGate.name, up]],
      ["gate and up", [gateCut, ofGate, upCut], [ofGate.name, upCut.name]],
    ];
    return choices.map(([of, nodes, inputs]) =>
      hypothesis("clamped", site, [...nodes, replaced(site, { inputs })], {
        parameters: { limit, of },
        statement: `${of} ${of.includes(" and ") ? "are" : "is"} cut off at ${short(limit)} before they are multiplied, which this model does not do`,
      }),
    );
  });
}
