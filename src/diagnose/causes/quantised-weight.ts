import type { Op } from "../../spec/op.js";
import { quantisedParameters } from "../../spec/quantised-parameters.js";
import type { DType } from "../../tensor/dtype.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { type NamedQuantisation, weightQuantisations } from "./quantisation-table.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";

/** Parameters in narrow numbers. */
export const quantisedWeightCauses = {
  "weight-quantised": {
    kind: "parameter",
    transform: "T9",
    legend: "The weight of a product, or the embedding's table, went through narrow numbers on its way into the run.",
    hiddenBy: "weights that the narrow type holds; noise of a unit over several ops",
    confusedWith: ["activation-quantised", "accumulator-narrow", "low-rank-delta"],
    report: ["vllm-project/vllm#26343", "zero points of two conventions were one apart"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(quantisedWeightCauses);

export const quantisedWeightSearches: readonly Search[] = [
  {
    causes: ["weight-quantised"],
    stage: "fine",
    appliesTo: ofKind("linear", "embedding"),
    rewrites: quantisedWeights,
  },
];

function quantisedWeights({ site, investigation }: Proposal): Hypothesis[] {
  const weight = site.op.attributes.weight;
  if (typeof weight !== "string" || (investigation.parameters.shape(weight)?.length ?? 0) !== 2) return [];
  const store = storeType(investigation);
  return weightQuantisations(store).flatMap((quantisation) => [
    changed(quantisation, store),
    // A product that dequantises in its epilogue never rounds the weight itself.
    ...(site.op.kind === "linear" && store !== "float32" ? [changed(quantisation, undefined)] : []),
  ]);

  function changed(quantisation: NamedQuantisation, stored: DType | undefined): Hypothesis {
    const op = withQuantised(site.op, weight as string, quantisation, stored);
    return hypothesis("weight-quantised", site, [replaced(site, { op })], {
      parameters: quantisation.parameters,
      statement: `the weight is the checkpoint's after ${quantisation.title}`,
    });
  }
}

/** The same op on parameters of which one is quantised. */
function withQuantised(op: Op, weight: string, quantisation: NamedQuantisation, stored: DType | undefined): Op {
  return {
    ...op,
    attributes: { ...op.attributes, quantised: quantisation.title },
    evaluate(context, rows, columns) {
      const parameters = quantisedParameters(context.parameters, weight, quantisation, stored);
      return op.evaluate({ ...context, parameters }, rows, columns);
    },
  };
}
