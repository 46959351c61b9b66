import type { GraphNode } from "../../spec/graph.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import { quantised } from "../../spec/ops/quantised.js";
import { withinPart } from "../../spec/ops/terms.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { freshName, hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { activationQuantisations } from "./quantisation-table.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";

/** Operands in narrow numbers. */
export const quantisedActivationCauses = {
  "activation-quantised": {
    kind: "kernel",
    transform: "T9",
    legend: "The operand of a product is quantised on the fly, as fp8 and int8 kernels do; its own record stays right.",
    hiddenBy: "operands that the narrow type holds; noise of a unit over several ops",
    confusedWith: ["weight-quantised", "accumulator-narrow"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(quantisedActivationCauses);

export const quantisedActivationSearches: readonly Search[] = [
  {
    causes: ["activation-quantised"],
    stage: "fine",
    appliesTo: ofKind("linear"),
    rewrites: quantisedOperands,
  },
];

function quantisedOperands({ site, investigation }: Proposal): Hypothesis[] {
  const operand = investigation.graph.node(site.inputs[0]!);
  const { terms } = site.op.attributes as unknown as LinearAttributes;
  return activationQuantisations(storeType(investigation)).map((quantisation) => {
    const narrow: GraphNode = {
      ...operand,
      name: freshName(investigation.graph, `${site.name}.quantised operand`),
      // A rank quantises what it holds: scales are those of its own part.
      op: terms ? withinPart(quantised(quantisation), { first: terms.x, count: terms.count }) : quantised(quantisation),
      inputs: [operand.name],
    };
    return hypothesis("activation-quantised", site, [narrow, replaced(site, { inputs: [narrow.name] })], {
      parameters: quantisation.parameters,
      statement: `the operand of the product is quantised first: ${quantisation.title}`,
    });
  });
}
