import type { GraphNode } from "../../spec/graph.js";
import { rope } from "../../spec/ops/rope.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import { roundTo } from "../../tensor/dtype.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, isRecorded, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** RoPE: angles per position. */
export const ropeFrequencyCauses = {
  "rope-attention-factor": {
    kind: "parameter",
    transform: "T6",
    legend: "The attention factor of the config's rope scaling is left out of cos and sin, or multiplied in twice.",
    hiddenBy: "a factor of 1",
    confusedWith: ["softmax-scale", "scaled"],
    report: ["huggingface/transformers#47435", "YaRN's factor was missing or counted twice"],
  },
  "rope-theta": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE uses another theta than the config says.",
    hiddenBy: "position 0; the first pair of channels",
    confusedWith: ["rope-linear-scale", "position-offset", "rope-scaling-ignored"],
    report: ["vllm-project/vllm-ascend#5201", "another base than the model's: text lost its thread over distance"],
  },
  "rope-linear-scale": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE angles are divided by a factor: a linear scaling the config does not have.",
    hiddenBy: "position 0",
    confusedWith: ["rope-theta", "position-offset", "rope-twice"],
  },
  "rope-angles-rounded": {
    kind: "parameter",
    transform: "T5",
    legend: "Positions, frequencies and angles of RoPE are kept in 16 bits: later tokens share angles.",
    hiddenBy: "early positions",
    confusedWith: ["positions-rounded", "rope-frequencies-rounded"],
    report: ["huggingface/transformers#25681", "angles in 16 bits drift by up to half a turn"],
  },
  "rope-frequencies-rounded": {
    kind: "parameter",
    transform: "T5",
    legend: "The inverse frequencies of RoPE are rounded to 16 bits: angles drift with position.",
    hiddenBy: "early positions: the error grows with the position",
    confusedWith: ["rope-angles-rounded", "rope-theta"],
    report: ["huggingface/transformers#29496", "inverse frequencies were cast with the weights"],
  },
  "rope-scaling-ignored": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE ignores the config's rope scaling.",
    hiddenBy: "configs without scaling; fast pairs of channels",
    confusedWith: ["rope-theta", "rope-linear-scale"],
    report: ["ggml-org/llama.cpp#8676", "Llama 3's frequency scaling was missing: long texts fell apart"],
  },
  "rope-frequencies": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE uses other frequencies than the config's, by no rule that has a name.",
    hiddenBy: "position 0",
    confusedWith: ["rope-theta", "rope-partial"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(ropeFrequencyCauses);
const isRope = ofKind("rope");
const attributesOf = ({ site }: Proposal) => site.op.attributes as unknown as RopeAttributes;
const thetas = [1e4, 2.5e4, 1e5, 1.5e5, 5e5, 1e6, 5e6, 1e7];
const linearScales = [0.25, 0.5, 2, 4, 8, 16, 32, 64];

const changed = ({ site }: Proposal, change: Partial<RopeAttributes>): GraphNode[] => [
  replaced(site, { op: rope({ ...(site.op.attributes as unknown as RopeAttributes), ...change }) }),
];
const ofTheta = (theta: number, width: number) => Float64Array.from({ length: width }, (_, j) => theta ** (-j / width));

/** Whether frequencies are those of the config's theta without any scaling. */
function isPlain({ investigation }: Proposal, frequencies: Float64Array): boolean {
  const plain = ofTheta(investigation.config.ropeTheta, frequencies.length);
  return plain.every((f, j) => Math.abs(f - frequencies[j]!) <= 1e-9 * f);
}

export const ropeFrequencySearches: readonly Search[] = [
  {
    causes: ["rope-attention-factor"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && attributesOf(proposal).attentionFactor !== 1,
    rewrites(proposal) {
      const own = attributesOf(proposal).attentionFactor;
      return (
        [
          [1, "left out of"],
          [own ** 2, "multiplied twice into"],
        ] as const
      ).map(([attentionFactor, what]) =>
        hypothesis("rope-attention-factor", proposal.site, changed(proposal, { attentionFactor }), {
          parameters: { factor: attentionFactor, expected: own },
          statement: `the attention factor ${short(own)} of the config's rope scaling is ${what} cos and sin`,
        }),
      );
    },
  },
  {
    causes: ["rope-theta"],
    stage: "large",
    appliesTo: isRope,
    rewrites: (proposal) => thetas.flatMap((theta) => otherTheta(proposal, theta)),
  },
  {
    causes: ["rope-linear-scale"],
    stage: "large",
    appliesTo: isRope,
    rewrites(proposal) {
      const { inverseFrequencies } = attributesOf(proposal);
      return linearScales.flatMap((factor) => {
        const divided = inverseFrequencies.map((f) => f / factor);
        if (isPlain(proposal, divided)) return [];
        return [
          hypothesis("rope-linear-scale", proposal.site, changed(proposal, { inverseFrequencies: divided }), {
            parameters: { factor },
            statement: `RoPE angles are divided by ${factor}: a linear scaling the config does not have`,
          }),
        ];
      });
    },
  },
  {
    causes: ["rope-angles-rounded", "rope-frequencies-rounded"],
    stage: "large",
    appliesTo: isRope,
    rewrites(proposal) {
      const { inverseFrequencies } = attributesOf(proposal);
      return (["bfloat16", "float16"] as const).flatMap((dtype) => [
        hypothesis("rope-angles-rounded", proposal.site, changed(proposal, { angleType: dtype }), {
          parameters: { dtype },
          statement: `positions, frequencies and angles of RoPE are kept in ${dtype}: later tokens share angles`,
        }),
        hypothesis(
          "rope-frequencies-rounded",
          proposal.site,
          changed(proposal, { inverseFrequencies: inverseFrequencies.map((f) => roundTo(f, dtype)) }),
          {
            parameters: { dtype },
            statement: `the inverse frequencies of RoPE are rounded to ${dtype}: angles drift with position`,
          },
        ),
      ]);
    },
  },
  {
    causes: ["rope-scaling-ignored"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && !isPlain(proposal, attributesOf(proposal).inverseFrequencies),
    rewrites(proposal) {
      const width = attributesOf(proposal).inverseFrequencies.length;
      const plain = ofTheta(proposal.investigation.config.ropeTheta, width);
      return [
        hypothesis("rope-scaling-ignored", proposal.site, changed(proposal, { inverseFrequencies: plain }), {
          statement: "RoPE ignores the config's rope scaling",
        }),
      ];
    },
  },
  {
    // Round thetas that no list has.
    causes: ["rope-theta"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && isRecorded(proposal),
    rewrites: (proposal) =>
      [2, 3, 4, 5, 6, 7, 8].flatMap((decade) =>
        [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 7.5, 8, 9].flatMap((digit) => {
          const theta = digit * 10 ** decade;
          return thetas.includes(theta) ? [] : otherTheta(proposal, theta);
        }),
      ),
  },
];

function otherTheta(proposal: Proposal, theta: number): Hypothesis[] {
  const expected = proposal.investigation.config.ropeTheta;
  if (theta === expected) return [];
  const inverseFrequencies = ofTheta(theta, attributesOf(proposal).inverseFrequencies.length);
  return [
    hypothesis("rope-theta", proposal.site, changed(proposal, { inverseFrequencies }), {
      parameters: { theta, expected },
      statement: `RoPE uses theta ${short(theta)} where the config says ${short(expected)}`,
    }),
  ];
}
