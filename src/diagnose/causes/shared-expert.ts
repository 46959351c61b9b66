import { add } from "../../spec/ops/add.js";
import { identity } from "../../spec/ops/identity.js";
import type { CauseEntries } from "./cause-entry.js";
import { hypothesesOf, ofKind, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** The expert that all tokens of a mixture share. */
export const sharedExpertCauses = {
  "shared-expert-missing": {
    kind: "seam",
    transform: "T11",
    legend: "What the shared expert gives is not added to the chosen ones.",
    hiddenBy: "a shared expert of zeros",
    confusedWith: ["routed-experts-missing", "routing-scale"],
  },
  "routed-experts-missing": {
    kind: "seam",
    transform: "T11",
    legend: "The shared expert's output stands alone: the chosen ones' is not added.",
    hiddenBy: "never",
    confusedWith: ["shared-expert-missing"],
  },
  "shared-expert-repeated": {
    kind: "seam",
    transform: "T11",
    legend: "What the shared expert gives is added several times: on every rank.",
    hiddenBy: "a shared expert of zeros",
    confusedWith: ["branch-scaled", "scaled"],
  },
  "shared-gate-ignored": {
    kind: "seam",
    transform: "T11",
    legend: "The shared expert's output is not multiplied by its gate.",
    hiddenBy: "gates near 1",
    confusedWith: ["shared-expert-repeated", "row-gain"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(sharedExpertCauses);
const isMixture: Search["appliesTo"] = ({ site }) => site.op.kind === "add" && site.site.what === "branch";

export const sharedExpertSearches: readonly Search[] = [
  {
    causes: ["shared-expert-missing"],
    stage: "large",
    appliesTo: isMixture,
    rewrites: ({ site }) => [
      hypothesis("shared-expert-missing", site, [replaced(site, { op: identity(), inputs: [site.inputs[0]!] })], {
        statement: "the shared expert's output is not added to that of the chosen experts",
      }),
    ],
  },
  {
    causes: ["routed-experts-missing"],
    stage: "large",
    appliesTo: isMixture,
    rewrites: ({ site }) => [
      hypothesis("routed-experts-missing", site, [replaced(site, { op: identity(), inputs: [site.inputs[1]!] })], {
        statement: "the chosen experts' output is not added to that of the shared one",
      }),
    ],
  },
  {
    causes: ["shared-expert-repeated"],
    stage: "large",
    appliesTo: isMixture,
    rewrites: ({ site }) =>
      [2, 4, 8].map((times) =>
        hypothesis("shared-expert-repeated", site, [replaced(site, { op: add([1, times]) })], {
          parameters: { times },
          statement: `the shared expert's output is added ${times} times: on every rank`,
        }),
      ),
  },
  {
    causes: ["shared-gate-ignored"],
    stage: "large",
    appliesTo: ofKind("scale-rows"),
    rewrites: ({ site }) => [
      hypothesis("shared-gate-ignored", site, [replaced(site, { op: identity(), inputs: [site.inputs[0]!] })], {
        statement: "the shared expert's output is not multiplied by its gate",
      }),
    ],
  },
];
