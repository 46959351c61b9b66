import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import type { CauseEntries } from "./cause-entry.js";
import { fitNumber } from "./fitted-number.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** RMSNorm: what its rows are divided by. */
export const normCauses = {
  "norm-epsilon": {
    kind: "parameter",
    transform: "T6",
    legend: "RMSNorm adds another epsilon to the mean of squares than the config says.",
    hiddenBy: "a mean of squares far above both epsilons",
    confusedWith: ["norm-divisor", "row-gain"],
    report: ["apache/tvm#15856", "an epsilon of 1e-6 was written into the code"],
  },
  "norm-mean-subtracted": {
    kind: "kernel",
    transform: "T6",
    legend: "The mean is subtracted first: a LayerNorm where the model has an RMSNorm.",
    hiddenBy: "rows of mean 0",
    confusedWith: ["norm-epsilon", "row-gain"],
  },
  "norm-statistics-rounded": {
    kind: "kernel",
    transform: "T16",
    legend: "Squares, their mean and its root are kept in the type of storage, not in float32.",
    hiddenBy: "a mean and a root that the narrow type holds exactly; runs in float32",
    confusedWith: ["norm-epsilon", "row-gain"],
    report: ["huggingface/transformers#29402", "where a norm casts to 16 bits changed the tokens of Gemma"],
  },
  "norm-sum-overflow": {
    kind: "kernel",
    transform: "T10",
    legend: "The sum of squares is kept in float16: rows beyond 65504 overflow and become 0.",
    hiddenBy: "rows whose sum of squares stays below 65504",
    confusedWith: ["rows-unwritten", "non-finite-created"],
    report: ["ROCm/AMDMIGraphX#2556", "a float16 sum of squares overflowed, and its inverse root was 0"],
  },
  "norm-across-heads": {
    kind: "kernel",
    transform: "T6",
    legend: "The mean of squares of a QK-norm is taken over all heads at once, not per head.",
    hiddenBy: "one head, or heads of equal mean square",
    confusedWith: ["row-head-gain", "norm-epsilon"],
    report: ["vllm-project/vllm#16311", "the QK-norm ran over all heads: accuracy fell under tensor parallelism"],
  },
  "norm-divisor": {
    kind: "kernel",
    transform: "T6",
    legend: "The sum of squares is divided by another number than the channels it is taken over.",
    hiddenBy: "never",
    confusedWith: ["scaled", "norm-part"],
  },
  "norm-part": {
    kind: "kernel",
    transform: "T6",
    legend: "The mean of squares is taken over the first channels alone.",
    hiddenBy: "channels of equal mean square",
    confusedWith: ["norm-divisor", "row-gain"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(normCauses);
const isNorm = ofKind("rmsnorm");

/** Powers of ten as configs have them, and what lies between them. */
export const epsilons: readonly number[] = [
  0, 0.1, 0.05, 0.02, 1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12,
];

const attributesOf = ({ site }: Proposal) => site.op.attributes as unknown as RmsNormAttributes;
const changed = (proposal: Proposal, change: Partial<RmsNormAttributes>) => [
  replaced(proposal.site, { op: rmsNorm({ ...attributesOf(proposal), ...change }) }),
];

export const normSearches: readonly Search[] = [
  {
    causes: ["norm-epsilon"],
    stage: "large",
    appliesTo: isNorm,
    rewrites(proposal) {
      const own = attributesOf(proposal).epsilon;
      return epsilons
        .filter((epsilon) => epsilon !== own)
        .map((epsilon) =>
          hypothesis("norm-epsilon", proposal.site, changed(proposal, { epsilon }), {
            parameters: { epsilon },
            statement: `RMSNorm uses epsilon ${epsilon} where the config says ${own}`,
          }),
        );
    },
  },
  {
    causes: ["norm-mean-subtracted"],
    stage: "large",
    appliesTo: isNorm,
    rewrites: (proposal) => [
      hypothesis("norm-mean-subtracted", proposal.site, changed(proposal, { centred: true }), {
        statement: "the mean is subtracted first: a LayerNorm where the model has an RMSNorm",
      }),
    ],
  },
  {
    causes: ["norm-statistics-rounded"],
    stage: "large",
    appliesTo: (proposal) => isNorm(proposal) && proposal.investigation.precision.store !== "float32",
    rewrites(proposal) {
      const { store } = proposal.investigation.precision;
      return (["rsqrt", "sqrt"] as const).map((storedStatistics) =>
        hypothesis("norm-statistics-rounded", proposal.site, changed(proposal, { storedStatistics }), {
          parameters: { dtype: store },
          statement: `squares, their mean and its root are kept in ${store}, not in float32`,
        }),
      );
    },
  },
  {
    causes: ["norm-sum-overflow"],
    stage: "large",
    appliesTo: (proposal) => isNorm(proposal) && hasZeroRow(proposal),
    rewrites: (proposal) => [
      hypothesis("norm-sum-overflow", proposal.site, changed(proposal, { sumLimit: 65504, sumError: 2 ** -10 }), {
        parameters: { limit: 65504 },
        statement: "the sum of squares is kept in float16: rows beyond 65504 overflow and become 0",
      }),
    ],
  },
  {
    causes: ["norm-across-heads"],
    stage: "large",
    appliesTo: (proposal) => isNorm(proposal) && (proposal.site.heads ?? 1) > 1,
    rewrites: (proposal) => [
      hypothesis("norm-across-heads", proposal.site, changed(proposal, { meanWidth: proposal.site.columns }), {
        statement: `the mean of squares is taken over all ${proposal.site.heads} heads at once, not per head of ${attributesOf(proposal).width}`,
      }),
    ],
  },
  {
    causes: ["norm-divisor"],
    stage: "large",
    appliesTo: isNorm,
    rewrites: (proposal) => divisors(proposal, attributesOf(proposal)),
  },
];

/** An overflowing sum leaves rows of zeros. */
function hasZeroRow({ finding }: Proposal): boolean {
  const { observed, rows, columns } = finding.comparison;
  return [...rows.keys()].some((r) =>
    observed.subarray(r * columns.length, (r + 1) * columns.length).every((x) => x === 0),
  );
}

/** Σx² divided by a padded or otherwise wrong width. */
function divisors(proposal: Proposal, a: RmsNormAttributes): Hypothesis[] {
  const { site, investigation } = proposal;
  const dividing = (divisor: number) => [replaced(site, { op: rmsNorm({ ...a, divisor }) })];
  const by = (divisor: number, fitted = 0) =>
    hypothesis("norm-divisor", site, dividing(divisor), {
      fitted,
      ...(fitted > 0 && { heldOut: (_, c) => c % 2 === 1 }),
      parameters: { divisor, width: a.width },
      statement: `the sum of squares is divided by ${short(divisor)}, not by the ${a.width} channels it is taken over`,
      group: `norm-divisor ${divisor}`,
    });
  const padded = new Set([
    2 ** Math.ceil(Math.log2(a.width + 1)),
    a.width * 2,
    a.width / 2,
    Math.ceil((a.width + 1) / 32) * 32,
    Math.ceil((a.width + 1) / 64) * 64,
    1,
    a.width - 1,
  ]);
  const named = [...padded].filter((divisor) => divisor >= 1 && divisor !== a.width);
  const out = named.map((divisor) => by(divisor));
  // Where the norm was recorded, its own gains say the divisor.
  if (investigation.observations.has(site.name)) return out;
  const divisor = Math.round(fitNumber(proposal, a.width, dividing)?.value ?? 0);
  return divisor < 1 || divisor === a.width || padded.has(divisor) ? out : [...out, by(divisor, 1)];
}
