import { flipVariance } from "../../spec/noise.js";
import type { Op } from "../../spec/op.js";
import { chooseExperts } from "../../spec/ops/choose-experts.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { Routing } from "../../spec/ops/routing.js";
import { routingWeights } from "../../spec/ops/routing-weights.js";
import type { DType } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis, ParameterValue } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** The router of a mixture of experts: its logits, its choice, the weights it gives. */
export const routerCauses = {
  "router-precision": {
    kind: "kernel",
    transform: "T16",
    legend: "Router logits are computed in a narrower type than the float32 that the model's router has.",
    hiddenBy: "never",
    confusedWith: ["accumulator-narrow", "weight-quantised"],
  },
  "routing-bias-ignored": {
    kind: "parameter",
    transform: "T11",
    legend: "The bias that balances the experts does not count in their choice.",
    hiddenBy: "rows whose choice the bias does not turn",
    confusedWith: ["routing-bias-doubled", "routing-groups-ignored"],
  },
  "routing-bias-doubled": {
    kind: "parameter",
    transform: "T11",
    legend: "The bias that balances the experts is added to their scores twice.",
    hiddenBy: "rows whose choice the bias does not turn",
    confusedWith: ["routing-bias-ignored"],
  },
  "routing-bias-in-weights": {
    kind: "kernel",
    transform: "T11",
    legend: "The bias that is for the choice alone counts in the weights as well.",
    hiddenBy: "a bias of zeros",
    confusedWith: ["routing-not-renormalised", "additive-constant"],
  },
  "routing-groups-ignored": {
    kind: "parameter",
    transform: "T13",
    legend: "Experts are chosen from all groups where the model first keeps the best ones.",
    hiddenBy: "rows whose best experts lie in the best groups",
    confusedWith: ["routing-bias-ignored"],
  },
  "routing-order": {
    kind: "kernel",
    transform: "T13",
    legend:
      "Softmax and choice in the other order: shares of all experts for shares of the chosen ones, or the reverse.",
    hiddenBy: "weights that are divided by their sum anyway",
    confusedWith: ["routing-not-renormalised", "row-gain"],
    report: ["vllm-project/vllm#43223", "the softmax came after the choice of experts and should have come before"],
  },
  "routing-not-renormalised": {
    kind: "kernel",
    transform: "T13",
    legend: "The weights of the chosen experts are not divided by their sum.",
    hiddenBy: "one expert that has all the weight",
    confusedWith: ["routing-order", "row-gain"],
  },
  "routing-renormalised": {
    kind: "kernel",
    transform: "T13",
    legend: "The weights of the chosen experts are divided by their sum, which the model does not do.",
    hiddenBy: "one expert that has all the weight",
    confusedWith: ["routing-order", "row-gain"],
  },
  "routing-scale": {
    kind: "parameter",
    transform: "T6",
    legend: "The weights lack the model's routed scaling factor, or have it twice.",
    hiddenBy: "a factor of 1",
    confusedWith: ["scaled"],
  },
  "routing-scores": {
    kind: "parameter",
    transform: "T19",
    legend: "Scores are a sigmoid where the model has a softmax, or the reverse.",
    hiddenBy: "never",
    confusedWith: ["routing-order"],
  },
} as const satisfies CauseEntries;

type RouterCause = keyof typeof routerCauses;
const hypothesis = hypothesesOf(routerCauses);

/** A search with the same choice or the same weights of another routing. */
function routing(
  kind: "choose-experts" | "routing-weights",
  cause: RouterCause,
  rewrites: (
    own: Routing,
  ) => readonly (readonly [change: Partial<Routing>, statement: string, parameters?: Record<string, ParameterValue>])[],
): Search {
  return {
    causes: [cause],
    stage: "large",
    appliesTo: ofKind(kind),
    rewrites({ site }) {
      const own = site.op.attributes as unknown as Routing;
      return rewrites(own).map(([change, statement, parameters = {}]) => {
        const changed = { ...own, ...change };
        const op = kind === "choose-experts" ? chooseExperts(changed) : routingWeights(changed, site.op.dtype);
        return hypothesis(cause, site, [replaced(site, { op })], { statement, parameters });
      });
    },
  };
}

export const routerSearches: readonly Search[] = [
  {
    causes: ["router-precision"],
    stage: "named",
    appliesTo: ({ site }) => site.site.what === "router" && site.op.kind === "linear" && site.op.dtype === "float32",
    rewrites: narrower,
  },
  routing("choose-experts", "routing-bias-ignored", ({ bias }) =>
    bias ? [[{ bias: undefined }, `${bias} does not count in the choice of experts`]] : [],
  ),
  routing("choose-experts", "routing-bias-doubled", ({ bias }) =>
    bias ? [[{ biasTimes: 2 }, `${bias} counts twice in the choice of experts`]] : [],
  ),
  routing("choose-experts", "routing-groups-ignored", ({ groups }) =>
    groups && groups.kept < groups.count
      ? [
          [
            { groups: undefined },
            `experts are chosen from all ${groups.count} groups, not from the best ${groups.kept}`,
          ],
        ]
      : [],
  ),
  routing("routing-weights", "routing-bias-in-weights", ({ bias }) =>
    bias ? [[{ biasTimes: 1, biasInWeights: 1 }, `${bias} counts in the weights of the chosen experts too`]] : [],
  ),
  routing("routing-weights", "routing-order", ({ scoring }) => {
    if (scoring === "softmax-of-chosen")
      return [[{ scoring: "softmax" }, "the softmax is over all experts and comes before the choice"]];
    return scoring === "softmax"
      ? [[{ scoring: "softmax-of-chosen" }, "the softmax is over the chosen experts and comes after the choice"]]
      : [];
  }),
  routing("routing-weights", "routing-not-renormalised", ({ renormalised }) =>
    renormalised ? [[{ renormalised: false }, "the weights of the chosen experts are not divided by their sum"]] : [],
  ),
  routing("routing-weights", "routing-renormalised", ({ renormalised, scoring }) =>
    renormalised || scoring === "softmax-of-chosen"
      ? []
      : [
          [
            { renormalised: true },
            "the weights of the chosen experts are divided by their sum, which the model does not do",
          ],
        ],
  ),
  routing("routing-weights", "routing-scale", ({ scale }) =>
    scale === 1
      ? []
      : [
          [{ scale: 1 }, `the weights lack the routed scaling factor ${scale}`, { scale: 1 }],
          [
            { scale: scale * scale },
            `the weights have the routed scaling factor ${scale} twice`,
            { scale: scale * scale },
          ],
        ],
  ),
  routing("routing-weights", "routing-scores", ({ scoring }) =>
    scoring === "sigmoid"
      ? [[{ scoring: "softmax" }, "scores are a softmax over the experts where the model has a sigmoid of each"]]
      : [[{ scoring: "sigmoid" }, "scores are a sigmoid of each expert where the model has a softmax"]],
  ),
];

/** The product as the model's own type stores it, before it is widened. */
function narrower({ site, investigation }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  const types = new Set<DType>(["bfloat16", "float16"]);
  const { store } = investigation.precision;
  return (types.has(store) ? [store] : [...types]).map((dtype) =>
    hypothesis("router-precision", site, [replaced(site, { op: storedAs(linear(a), dtype) })], {
      parameters: { dtype },
      statement: `the router's logits are computed in ${dtype}, where the model's router is float32`,
    }),
  );
}

/** An op whose result goes through a narrower type. */
function storedAs(op: Op, dtype: DType): Op {
  return {
    ...op,
    attributes: { ...op.attributes, through: dtype },
    evaluate(context, rows, columns) {
      const { value, variance, ...rest } = op.evaluate(context, rows, columns);
      for (let i = 0; i < variance.length; i++) variance[i] = flipVariance(value[i]!, variance[i]!, dtype);
      roundAll(value, dtype);
      return { ...rest, value, variance };
    },
  };
}
