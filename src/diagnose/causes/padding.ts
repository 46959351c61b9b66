import type { Capture } from "../../capture/capture.js";
import { CaptureObservations } from "../../capture/observations.js";
import type { Padding } from "../../capture/padding.js";
import { Evaluator } from "../../spec/evaluator.js";
import type { Op } from "../../spec/op.js";
import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import { UnitRecipe } from "../../spec/recipe.js";
import type { Investigation } from "../check/investigation.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Pad tokens of a padded batch. */
export const paddingCauses = {
  "padding-attended": {
    kind: "seam",
    transform: "T4",
    legend: "Pad tokens are attended to like any others: the padding mask does not reach attention.",
    hiddenBy: "sequences without padding",
    confusedWith: ["position-pads-counted", "causal-missing"],
    report: ["unslothai/unsloth#2216", "batches of unequal prompts were generated without their mask"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(paddingCauses);

/** Their keys and values lie in the recording as well. */
export const paddingSearches: readonly Search[] = [
  {
    causes: ["padding-attended"],
    stage: "named",
    appliesTo: ({ site, investigation: { capture } }) =>
      site.op.kind === "attention" && capture.padding !== undefined && capture.steps.length === 1,
    rewrites: attended,
  },
];

function attended({ site, investigation }: Proposal): Hypothesis[] {
  const padding = investigation.capture.padding!;
  const whole = unmasked(investigation, padding);
  const a = site.op.attributes as unknown as AttentionAttributes;
  const plain = attention(a);
  const op: Op = {
    ...plain,
    attributes: { ...plain.attributes, pads: "attended" },
    evaluate(context, rows, columns) {
      const { graph, parameters, precision } = investigation.evaluator;
      const { rounding, noise } = context;
      const inner = new Evaluator({
        graph,
        parameters,
        precision,
        rows: whole.rows,
        observations: whole,
        noise,
        recipe: rounding && new UnitRecipe(rounding.store),
      });
      const places = rows.map((row) => padding.places[row]!);
      const input = (index: number, r: Int32Array, c?: Int32Array, at?: number) =>
        inner.read(site.inputs[index]!, r, site.name, c, at);
      return plain.evaluate({ ...context, rows: whole.rows, input }, places, columns);
    },
  };
  return [
    hypothesis("padding-attended", site, [replaced(site, { op })], {
      statement: "pad tokens are attended to like any others: the padding mask does not reach attention",
    }),
  ];
}

const known = new WeakMap<Capture, CaptureObservations>();

/** The padded batch with every place a token. */
function unmasked({ capture, graph }: Investigation, { tokens }: Padding): CaptureObservations {
  let whole = known.get(capture);
  if (!whole) {
    const step = capture.steps[0]!;
    const batch = step.seq_ids.length;
    const { positions: _, ...rest } = step;
    const event = {
      ...rest,
      token_ids: new Array<number>(batch * tokens).fill(0),
      qo_indptr: Array.from({ length: batch + 1 }, (_, b) => b * tokens),
    };
    whole = new CaptureObservations({ ...capture, steps: [event], padding: undefined }, graph);
    known.set(capture, whole);
  }
  return whole;
}
