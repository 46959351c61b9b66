import type { Capture } from "../../capture/capture.js";
import type { StepEvent } from "../../capture/format.js";
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
    appliesTo: ({ site, investigation: { capture } }) => site.op.kind === "attention" && capture.paddings !== undefined,
    rewrites: attended,
  },
];

function attended({ site, investigation }: Proposal): Hypothesis[] {
  const whole = unmasked(investigation);
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
      const places = rows.map((row) => placeOf(investigation, whole, row));
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

/** The run with every place of its padded batches a token. */
function unmasked({ capture, graph }: Investigation): CaptureObservations {
  let whole = known.get(capture);
  if (!whole) {
    const before = new Map<number, number>();
    const steps = capture.steps.map((step) => filled(step, capture.paddings?.get(step.step), before));
    whole = new CaptureObservations({ ...capture, steps, paddings: undefined }, graph);
    known.set(capture, whole);
  }
  return whole;
}

/** @param before places of each sequence in earlier steps; this step's are added. */
function filled(step: StepEvent, padding: Padding | undefined, before: Map<number, number>): StepEvent {
  const { positions: _, slot_mapping: slots, ...rest } = step;
  const { seq_ids: ids, kv_runs: runs, page_size: pageSize } = step;
  const columns = (b: number) => padding?.tokens ?? step.qo_indptr[b + 1]! - step.qo_indptr[b]!;
  const indptr = [0];
  const keys = ids.map((id, b) => {
    indptr.push(indptr[b]! + columns(b));
    before.set(id, (before.get(id) ?? 0) + columns(b));
    return before.get(id)!;
  });
  const firstSlot = (b: number) => Math.floor((runs?.[b]?.[0]?.[0] ?? 0) / pageSize!) * pageSize!;
  const written = ids.flatMap((_, b) =>
    Array.from({ length: columns(b) }, (_, i) => firstSlot(b) + keys[b]! - columns(b) + i),
  );
  return {
    ...rest,
    token_ids: padding ? new Array<number>(indptr.at(-1)!).fill(0) : step.token_ids,
    qo_indptr: indptr,
    ...(runs && pageSize && { kv_runs: ids.map((_, b) => [[firstSlot(b), keys[b]!] as [number, number]]) }),
    ...(runs && pageSize && slots && { slot_mapping: written }),
    ...(!runs && slots && { slot_mapping: slots }),
  };
}

/** The row of the whole run that stands where a row of the padded one does. */
function placeOf({ capture, observations }: Investigation, whole: CaptureObservations, row: number): number {
  const index = observations.rows.stepOf[row]!;
  const own = row - observations.rows.steps[index]!.firstRow;
  const place = capture.paddings?.get(capture.steps[index]!.step)?.places[own] ?? own;
  return whole.rows.steps[index]!.firstRow + place;
}
