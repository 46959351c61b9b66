import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesis, type Proposal } from "./proposal.js";
import { replaced } from "./transform.js";

/** Terms between two roundings of a running sum: one by one, and what one matrix instruction or one tile adds. */
const accumulatedTerms = [1, 4, 8, 16, 32, 64, 128, 256];

/** The running sum kept in 16 bits. */
export function accumulators({ site, investigation, finding }: Proposal, a: LinearAttributes): Hypothesis[] {
  const inputs = investigation.graph.node(site.inputs[0]!).columns;
  if (!investigation.hasBits(finding.node.name)) return [];
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
          kind: "kernel",
          transform: "T16",
          parameters: { dtype, terms },
          statement: `the running sum of the product is kept in ${dtype}, rounded after ${terms === 1 ? "every term" : `every ${terms} terms`}`,
        },
      ),
    ),
  );
}
