import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** In what a product is summed up. */
export const accumulatorCauses = {
  "accumulator-narrow": {
    kind: "kernel",
    transform: "T16",
    legend: "The running sum of a product is kept in 16 bits.",
    hiddenBy: "sums whose terms come out even; noise of a unit over several ops",
    confusedWith: ["weight-quantised", "activation-quantised"],
    report: ["tenstorrent/tt-xla#6009", "sums in bfloat16: the error grew with their length"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(accumulatorCauses);

/** Terms between two roundings of a running sum: one by one, and what one matrix instruction or one tile adds. */
const accumulatedTerms = [1, 4, 8, 16, 32, 64, 128, 256];

export const accumulatorSearches: readonly Search[] = [
  {
    causes: ["accumulator-narrow"],
    stage: "fine",
    appliesTo: ofKind("linear"),
    rewrites: accumulators,
  },
];

function accumulators({ site, investigation }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  const inputs = a.terms?.count ?? investigation.graph.node(site.inputs[0]!).columns;
  const choices = accumulatedTerms
    .filter((terms) => terms < inputs)
    .flatMap((terms) => (["float16", "bfloat16"] as const).map((dtype) => ({ dtype, terms })));
  return choices.flatMap(({ dtype, terms }) =>
    (a.bias ? [true, false] : [false]).map((biasFirst) =>
      hypothesis(
        "accumulator-narrow",
        site,
        [replaced(site, { op: linear({ ...a, accumulator: { dtype, terms, biasFirst } }) })],
        {
          parameters: { dtype, terms },
          statement: `the running sum of the product is kept in ${dtype}, rounded after ${terms === 1 ? "every term" : `every ${terms} terms`}`,
        },
      ),
    ),
  );
}
