import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import { attendingSearches, type Change } from "./attention-settings.js";
import type { CauseEntries } from "./cause-entry.js";
import { fitNumber } from "./fitted-number.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import type { Proposal, Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Scores: their scale, caps, sinks, biases by distance. */
export const scoreCauses = {
  "softmax-scale": {
    kind: "parameter",
    transform: "T7",
    legend: "Scores are multiplied by another number than the model's scale.",
    hiddenBy: "rows with one key",
    confusedWith: ["cache-scale", "rope-attention-factor", "soft-cap"],
    report: ["huggingface/transformers#38277", "queries were scaled by the module and again by the kernel"],
  },
  "soft-cap": {
    kind: "parameter",
    transform: "T7",
    legend: "Scores pass through a soft cap that the model does not have, or has with another limit.",
    hiddenBy: "scores far below the cap",
    confusedWith: ["softmax-scale", "logits-soft-cap"],
  },
  "soft-cap-missing": {
    kind: "parameter",
    transform: "T7",
    legend: "The model's soft cap on scores is missing.",
    hiddenBy: "scores far below the cap",
    confusedWith: ["soft-cap", "softmax-scale"],
    report: ["sgl-project/sglang#33915", "the cap was given to the call that ignores it"],
  },
  "attention-sink": {
    kind: "kernel",
    transform: "T6",
    legend: "The softmax counts a key that is not there: an attention sink, or one zero score too many.",
    hiddenBy: "scores far above the sink",
    confusedWith: ["row-head-gain", "scaled"],
    report: ["flashinfer-ai/flashinfer#3716", "lanes beyond the last key entered the denominator with zero scores"],
  },
  "attention-sink-missing": {
    kind: "parameter",
    transform: "T6",
    legend: "The model's attention sinks do not count in the softmax.",
    hiddenBy: "scores far above the sinks",
    confusedWith: ["row-head-gain", "scaled"],
  },
  alibi: {
    kind: "seam",
    transform: "T6",
    legend: "Scores fall with the distance of their keys (ALiBi), which the model does not do.",
    hiddenBy: "rows with one key",
    confusedWith: ["softmax-scale", "window"],
  },
} as const satisfies CauseEntries;

const search = attendingSearches(scoreCauses);

export const scoreSearches: readonly Search[] = [
  search(["softmax-scale"], scales),
  search(["soft-cap"], (one, a) =>
    [2, 5, 8, 10, 15, 20, 30, 50, 100]
      .filter((softCap) => softCap !== a.softCap)
      .map((softCap) =>
        one("soft-cap", { softCap }, `scores pass through a soft cap of ${softCap} that the model does not have`, {
          softCap,
        }),
      ),
  ),
  search(["soft-cap-missing"], (one, a) =>
    a.softCap ? [one("soft-cap-missing", { softCap: undefined }, "the soft cap on scores is missing")] : [],
  ),
  search(["attention-sink-missing"], (one, a) =>
    typeof a.sink === "string"
      ? [one("attention-sink-missing", { sink: undefined }, "the attention sinks do not count in the softmax")]
      : [],
  ),
  search(["attention-sink"], (one) =>
    [-2, -1, 0, 1, 2, 3, 4].map((sink) =>
      one(
        "attention-sink",
        { sink },
        `the softmax counts a key that is not there (an attention sink, or one zero score too many: logit ${sink})`,
        { logit: sink },
      ),
    ),
  ),
  search(["alibi"], slopes),
  search(["softmax-scale"], fittedScale, { fits: true }),
];

function scales(one: Change<"softmax-scale">, a: AttentionAttributes, { investigation }: Proposal): Hypothesis[] {
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
      one("softmax-scale", { scale }, `scores are scaled by ${title}, not by ${short(a.scale)}`, {
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
        { scale: a.scale * factor },
        `scores are scaled by ${short(a.scale * factor)}, ${factor} times the model's scale`,
        { scale: a.scale * factor, expected: a.scale },
      ),
    );
  }
  return out;
}

/** ALiBi: a score falls with the distance of its key, by a slope per head. Press, Smith, Lewis, 2022. */
function slopes(one: Change<"alibi">, { heads }: AttentionAttributes): Hypothesis[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const geometric = (head: number, count: number) => 2 ** ((-8 * (head + 1)) / count);
  // Heads beyond a power of two take every second slope of twice as many.
  const slopeOf = (head: number) => (head < power ? geometric(head, power) : geometric(2 * (head - power), 2 * power));
  const plain = (head: number) => geometric(head, heads);
  return [slopeOf, ...(power === heads ? [] : [plain])].map((slope) =>
    one(
      "alibi",
      { scoreBias: (head, distance) => -slope(head) * distance },
      "scores fall with the distance of their keys (ALiBi slopes), which this model does not do",
    ),
  );
}

/** A scale on no list, from the change that scaling makes. */
function fittedScale(one: Change<"softmax-scale">, a: AttentionAttributes, proposal: Proposal): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  // Beside a fitted norm of queries or keys, which says the same where neither was recorded.
  if (site.name !== finding.node.name && investigation.observations.has(site.name)) return [];
  const scaledBy = (factor: number) => ({ scale: a.scale * factor });
  const fitted = fitNumber(proposal, 1, (factor) => [replaced(site, { op: attention({ ...a, ...scaledBy(factor) }) })]);
  if (!fitted || !(fitted.round > 0) || fitted.round === 1) return [];
  const { scale } = scaledBy(fitted.round);
  const statement = `scores are scaled by ${short(scale)}, ${fitted.round} times the model's scale`;
  const parameters = { scale, expected: a.scale };
  const heldOut = (_: number, c: number) => c % 2 === 1;
  return [one("softmax-scale", scaledBy(fitted.round), statement, parameters, { fitted: 1, heldOut })];
}
