import { Evaluator } from "../../spec/evaluator.js";
import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import type { Hypothesis } from "../hypothesis.js";
import { short } from "../hypothesis.js";
import { replaced } from "../transform.js";
import type { Rewrite } from "./mask.js";
import type { Proposal } from "./proposal.js";

/** Scores: their scale, caps, sinks, biases by distance. */
export function scores(a: AttentionAttributes, one: Rewrite, proposal: Proposal): Hypothesis[] {
  return [
    ...scales(a, one, proposal),
    ...caps(a, one),
    ...sinks(one),
    ...slopes(a, one),
    ...fittedScale(a, one, proposal),
  ];
}

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
  return out;
}

function caps(a: AttentionAttributes, one: Rewrite): Hypothesis[] {
  const out: Hypothesis[] = [];
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
  return out;
}

function sinks(one: Rewrite): Hypothesis[] {
  const out: Hypothesis[] = [];
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

/** ALiBi: a score falls with the distance of its key, by a slope per head. Press, Smith, Lewis, 2022. */
function slopes({ heads }: AttentionAttributes, one: Rewrite): Hypothesis[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const geometric = (head: number, count: number) => 2 ** ((-8 * (head + 1)) / count);
  // Heads beyond a power of two take every second slope of twice as many.
  const slopeOf = (head: number) => (head < power ? geometric(head, power) : geometric(2 * (head - power), 2 * power));
  const plain = (head: number) => geometric(head, heads);
  return [slopeOf, ...(power === heads ? [] : [plain])].map((slope) =>
    one(
      "alibi",
      "seam",
      "T6",
      { scoreBias: (head, distance) => -slope(head) * distance },
      "scores fall with the distance of their keys (ALiBi slopes), which this model does not do",
    ),
  );
}

const passes = 5;

/** A scale on no list: the one that leaves least in even columns, from the change that scaling makes; odd columns judge. */
function fittedScale(a: AttentionAttributes, one: Rewrite, { site, finding, investigation }: Proposal): Hypothesis[] {
  if (site.name !== finding.node.name) return [];
  const { rows, columns, observed, noise } = finding.comparison;
  const chosen = rows.length > fittedRows ? rows.subarray(rows.length - fittedRows) : rows;
  const first = rows.length - chosen.length;
  const even = columns.filter((_, c) => c % 2 === 0);
  const plain = new Evaluator({ ...investigation.evaluator, noise: false });
  const at = (factor: number) =>
    plain
      .rewritten([replaced(site, { op: attention({ ...a, scale: a.scale * factor }) })])
      .evaluate(site.name, chosen, even).value;
  const step = 1e-3;
  let factor = 1;
  let error = Infinity;
  for (let pass = 0; pass < passes; pass++) {
    const value = at(factor);
    const moved = at(factor * (1 + step));
    let cross = 0;
    let power = 0;
    let left = 0;
    for (let r = 0; r < chosen.length; r++) {
      for (let c = 0; c < even.length; c++) {
        const i = (first + r) * columns.length + 2 * c;
        const sigma = noise[i]!;
        if (!Number.isFinite(sigma) || sigma === 0 || !Number.isFinite(observed[i]!)) continue;
        const slope = (moved[r * even.length + c]! - value[r * even.length + c]!) / step / sigma;
        const off = (observed[i]! - value[r * even.length + c]!) / sigma;
        cross += slope * off;
        power += slope * slope;
        left += off * off;
      }
    }
    if (!(power > 0)) return [];
    factor *= 1 + Math.max(-0.5, Math.min(0.5, cross / power));
    error = Math.sqrt(Math.max(1, left / (chosen.length * even.length)) / power);
  }
  const round = [2, 3, 4, 5].map((digits) => Number(factor.toPrecision(digits)));
  const near = round.find((value) => Math.abs(value / factor - 1) < 4 * error) ?? round.at(-1)!;
  if (!(near > 0) || Math.abs(factor - 1) < 4 * error || near === 1) return [];
  return [
    one(
      "softmax-scale",
      "parameter",
      "T7",
      { scale: a.scale * near },
      `scores are scaled by ${short(a.scale * near)}, ${near} times the model's scale`,
      { scale: a.scale * near, expected: a.scale },
      1,
      (_, c) => c % 2 === 1,
    ),
  ];
}

/** Rows whose elements decide: the last ones, which see most keys. */
const fittedRows = 12;
