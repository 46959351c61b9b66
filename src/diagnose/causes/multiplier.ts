import { identity } from "../../spec/ops/identity.js";
import { type ScaleAttributes, scale } from "../../spec/ops/scale.js";
import type { CauseEntries } from "./cause-entry.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, lastName, ofKind, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Factors that a family puts on its embedding, its branches or its logits, and the cap on its logits. */
export const multiplierCauses = {
  "multiplier-missing": {
    kind: "seam",
    transform: "T6",
    legend: "The factor that the model puts on its embedding, on what its branches add or on its logits is left out.",
    hiddenBy: "a factor of 1",
    confusedWith: ["embedding-scaled", "branch-scaled", "residual-scaled", "scaled"],
  },
  "multiplier-repeated": {
    kind: "seam",
    transform: "T6",
    legend: "The factor that the model puts on its embedding, branches or logits is put on twice, or divides.",
    hiddenBy: "a factor of 1",
    confusedWith: ["embedding-scaled", "branch-scaled", "residual-scaled", "scaled"],
  },
  "logits-cap-missing": {
    kind: "parameter",
    transform: "T7",
    legend: "The model's soft cap on logits is missing.",
    hiddenBy: "logits far below the cap; greedy choices, which it does not change",
    confusedWith: ["logits-soft-cap", "soft-cap-missing"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(multiplierCauses);
const isScale = ofKind("scale");

export const multiplierSearches: readonly Search[] = [
  {
    causes: ["multiplier-missing"],
    stage: "large",
    appliesTo: isScale,
    rewrites({ site }) {
      const { factor } = site.op.attributes as unknown as ScaleAttributes;
      return [
        hypothesis("multiplier-missing", site, [replaced(site, { op: identity() })], {
          parameters: { factor: Number(short(factor)) },
          statement: `the factor ${short(factor)} on ${lastName(site.inputs[0]!)} is left out`,
        }),
      ];
    },
  },
  {
    causes: ["multiplier-repeated"],
    stage: "large",
    appliesTo: isScale,
    rewrites({ site }) {
      const { factor } = site.op.attributes as unknown as ScaleAttributes;
      return [[factor * factor, "is put on twice"] as const, [1 / factor, "divides where it multiplies"] as const].map(
        ([used, what]) =>
          hypothesis("multiplier-repeated", site, [replaced(site, { op: scale(used) })], {
            parameters: { factor: Number(short(factor)), used: Number(short(used)) },
            statement: `the factor ${short(factor)} on ${lastName(site.inputs[0]!)} ${what}`,
          }),
      );
    },
  },
  {
    causes: ["logits-cap-missing"],
    stage: "large",
    appliesTo: ofKind("soft-cap"),
    rewrites: ({ site }) => [
      hypothesis("logits-cap-missing", site, [replaced(site, { op: identity() })], {
        statement: `the soft cap of ${site.op.attributes.cap} on logits is missing`,
      }),
    ],
  },
];
