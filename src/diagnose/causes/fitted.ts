import type { GraphNode } from "../../spec/graph.js";
import type { Comparison } from "../bits/statistics.js";
import type { CauseEntries } from "./cause-entry.js";
import { embeddingCauses } from "./embedding.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { affine, replaced } from "./transform.js";

/** Factors: one for all, one per row, one per channel. */
export const gainCauses = {
  scaled: {
    kind: "seam",
    transform: "T6",
    legend: "A value is multiplied by a number: a scale is missed or applied twice.",
    hiddenBy: "never",
    confusedWith: ["norm-divisor", "cache-scale", "branch-scaled"],
    report: ["sgl-project/sglang#35111", "two ranges of e4m3 were taken for each other: exact powers of two"],
  },
  "column-gain": {
    kind: "parameter",
    transform: "T6",
    legend: "Each channel is multiplied by a number of its own: a weight is not the checkpoint's.",
    hiddenBy: "fewer than four rows",
    confusedWith: ["norm-weights-swapped", "norm-weight-offset"],
  },
  "row-gain": {
    kind: "kernel",
    transform: "T6",
    legend: "Each row is multiplied by a number of its own: a reduction over the row is off.",
    hiddenBy: "fewer than eight columns",
    confusedWith: ["norm-epsilon", "norm-part"],
    report: ["ModelTC/LightLLM#1467", "the variance honoured the stride of its input and the scaling did not"],
  },
  "row-head-gain": {
    kind: "kernel",
    transform: "T6",
    legend: "Each head of each row is multiplied by a number of its own: a reduction over the head is off.",
    hiddenBy: "fewer than eight columns",
    confusedWith: ["norm-across-heads", "attention-sink"],
    report: ["vllm-project/vllm#52156", "sinks were dropped: every head of every row came out larger"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...gainCauses, ...embeddingCauses });

/** Numbers taken from half of the sample; the other half decides whether they explain. */
export const gainSearches: readonly Search[] = [
  { causes: ["scaled", "embedding-scaled"], stage: "fitted", appliesTo: isRecorded, rewrites: scale },
  { causes: ["column-gain"], stage: "fitted", appliesTo: isRecorded, rewrites: columnGains },
  { causes: ["row-gain", "row-head-gain"], stage: "fitted", appliesTo: isRecorded, rewrites: rowGains },
];

/** How much more than expected a part of the elements came out, and how exactly that is known. */
class WeightedGain {
  #cross = 0;
  #power = 0;

  add({ expected, observed, noise }: Comparison, i: number): void {
    if (!Number.isFinite(noise[i]!) || noise[i] === 0 || !Number.isFinite(observed[i]!)) return;
    const weight = 1 / (noise[i]! * noise[i]!);
    this.#cross += expected[i]! * observed[i]! * weight;
    this.#power += expected[i]! * expected[i]! * weight;
  }

  get gain(): number {
    return this.#cross / this.#power;
  }

  get error(): number {
    return 1 / Math.sqrt(this.#power);
  }
}

function weightedGain(comparison: Comparison, include: (r: number, c: number) => boolean): WeightedGain {
  const { expected, columns } = comparison;
  const found = new WeightedGain();
  for (let i = 0; i < expected.length; i++)
    if (include(Math.floor(i / columns.length), i % columns.length)) found.add(comparison, i);
  return found;
}

/** Factors engineers write, by value. */
function recognise(gain: number, error: number, proposal: Proposal): string | undefined {
  const { hiddenSize, headDim, layerCount, headCount } = proposal.investigation.config;
  const named: [string, number][] = [
    ["sqrt(hidden)", Math.sqrt(hiddenSize)],
    ["1/sqrt(hidden)", 1 / Math.sqrt(hiddenSize)],
    ["1/sqrt(head_dim)", 1 / Math.sqrt(headDim)],
    ["sqrt(head_dim)", Math.sqrt(headDim)],
    ["1/sqrt(2 layers)", 1 / Math.sqrt(2 * layerCount)],
    ["1/heads", 1 / headCount],
    ["ln 2", Math.LN2],
    ["log2(e)", Math.LOG2E],
    ["1/sqrt(2)", Math.SQRT1_2],
    ["sqrt(2)", Math.SQRT2],
    ["2", 2],
    ["1/2", 0.5],
    ["4", 4],
    ["1/4", 0.25],
    ["8", 8],
    ["1/8", 0.125],
    ["-1", -1],
    ["0: nothing arrives", 0],
  ];
  const close = named.filter(([, value]) => Math.abs(gain - value) <= Math.max(6 * error, 1e-3 * Math.abs(value)));
  return close.sort((a, b) => Math.abs(gain - a[1]) - Math.abs(gain - b[1]))[0]?.[0];
}

function scale(proposal: Proposal): Hypothesis[] {
  const { site, finding } = proposal;
  const byRow = finding.comparison.rows.length > 1;
  const { gain, error } = weightedGain(finding.comparison, (r, c) => (byRow ? r : c) % 2 === 0);
  if (!Number.isFinite(gain)) return [];
  const recognised = recognise(gain, error, proposal);
  const cause = site.op.kind === "embedding" ? "embedding-scaled" : "scaled";
  const value = Number(gain.toPrecision(4));
  return [
    hypothesis(cause, site, [replaced(site, { op: affine(site.op, { factor: gain }, () => gain) })], {
      fitted: 1,
      heldOut: (r, c) => (byRow ? r : c) % 2 === 1,
      transfer: (op) => affine(op, { factor: gain }, () => gain),
      parameters: recognised ? { factor: value, recognised } : { factor: value },
      statement: `the value is multiplied by ${short(value)}${recognised ? ` (${recognised})` : ""}`,
      group: `${cause} ${value.toPrecision(2)}`,
    }),
  ];
}

/** Fitted on even rows, one gain per channel. */
function columnGains({ site, finding }: Proposal): Hypothesis[] {
  const { comparison } = finding;
  const { columns, rows } = comparison;
  if (rows.length < 4) return [];
  const gains = new Map<number, number>();
  columns.forEach((column, index) => {
    const found = new WeightedGain();
    for (let r = 0; r < rows.length; r += 2) found.add(comparison, r * columns.length + index);
    gains.set(column, found.gain);
  });
  if ([...gains.values()].some((gain) => !Number.isFinite(gain))) return [];
  return [gainPer("channel", "column-gain", site, gains, columns.length)];
}

/** Fitted on even columns, one gain per row (of each head, where there are heads). */
function rowGains({ site, finding }: Proposal): Hypothesis[] {
  const { columns, rows } = finding.comparison;
  if (columns.length < 8) return [];
  const width = site.heads ? site.columns / site.heads : site.columns;
  const out: Hypothesis[] = [];
  for (const [title, cause, group] of [
    ["row", "row-gain", site.columns],
    ["row and head", "row-head-gain", width],
  ] as const) {
    if (group === site.columns && title !== "row") continue;
    const gains = new Map<string, number>();
    rows.forEach((row, index) => {
      for (const head of new Set(Array.from(columns, (column) => Math.floor(column / group)))) {
        const { gain } = weightedGain(
          finding.comparison,
          (r, c) => r === index && Math.floor(columns[c]! / group) === head && c % 2 === 0,
        );
        gains.set(`${row} ${head}`, gain);
      }
    });
    if ([...gains.values()].some((gain) => !Number.isFinite(gain))) continue;
    const op = affine(
      site.op,
      { gain: `per ${title}` },
      (row, column) => gains.get(`${row} ${Math.floor(column / group)}`) ?? 1,
    );
    out.push(
      hypothesis(cause, site, [replaced(site, { op })], {
        fitted: gains.size,
        heldOut: (_, c) => c % 2 === 1,
        parameters: range([...gains.values()]),
        statement: `the value is multiplied by a different number in each ${title} (${spread([...gains.values()])}): a reduction over the row is off`,
      }),
    );
  }
  return out;
}

function gainPer(
  title: string,
  cause: keyof typeof gainCauses,
  site: GraphNode,
  gains: ReadonlyMap<number, number>,
  count: number,
): Hypothesis {
  const op = affine(site.op, { gain: `per ${title}` }, (_, column) => gains.get(column) ?? 1);
  return hypothesis(cause, site, [replaced(site, { op })], {
    fitted: count,
    heldOut: (r) => r % 2 === 1,
    parameters: range([...gains.values()]),
    statement: `the value is multiplied by a different number in each ${title} (${spread([...gains.values()])}): a weight is not the checkpoint's`,
  });
}

function range(values: readonly number[]): Record<string, number> {
  return { smallest: Number(Math.min(...values).toPrecision(4)), largest: Number(Math.max(...values).toPrecision(4)) };
}

function spread(values: readonly number[]): string {
  return `${short(Math.min(...values))} to ${short(Math.max(...values))}`;
}
