import { exactArithmetic } from "../../spec/arithmetic.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { attention } from "../../spec/ops/attention.js";
import { withScratch } from "../../tensor/scratch.js";
import { short } from "../causes/hypothesis.js";
import { replaced } from "../causes/transform.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { UnitMagnitude } from "./symptom.js";

/** What engineers suspect first, and what this recording says of it. Only what it really rules out is listed. */
export function ruledOut(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  all: readonly UnitMagnitude[],
): { suspect: string; evidence: string }[] {
  const out: { suspect: string; evidence: string }[] = [];
  const unitsOf = (kind: string, suffix = "") =>
    checks.filter(({ node }) => node.op.kind === kind && node.name.endsWith(suffix));
  const passing = (units: readonly UnitCheck[]) => units.length > 0 && units.every((check) => check.excess <= 1);
  const attentions = unitsOf("attention");
  if (passing(attentions)) {
    out.push({
      suspect: "the attention kernel (FlashInfer, SDPA), its softmax, mask and scale",
      evidence: `all ${attentions.length} recorded attention outputs follow from their own q, k and v to within rounding (rms z at most ${worst(attentions)})`,
    });
    const scores = largestScore(investigation, attentions);
    if (scores !== undefined) {
      out.push({
        suspect: "overflow of attention scores",
        evidence: `the largest possible |score| where q and k are in range is ${short(scores)}: float16 ends at 65504, float32 at 3.4e38`,
      });
    }
  }
  const keyNorms = unitsOf("rmsnorm", "k_norm");
  if (passing(keyNorms)) {
    const weight = largestWeight(investigation, keyNorms);
    out.push({
      suspect: "extreme K-norm weights",
      evidence: `the largest k_norm weight is ${short(weight)}, and all ${keyNorms.length} recorded k_norm outputs are right to within rounding`,
    });
  }
  const sweep = scaleSweep(investigation, attentions);
  if (sweep) out.push(sweep);
  const ropes = unitsOf("rope");
  if (passing(ropes))
    out.push({
      suspect: "RoPE: pairing, angles, positions",
      evidence: `all ${ropes.length} recorded rotations are right to within rounding (rms z at most ${worst(ropes)})`,
    });
  const relabelled = checks.filter((check) => check.excess > 1 && sameMultiset(check));
  if (relabelled.length === 0) {
    out.push({
      suspect: "a layout or stride mix-up",
      evidence: "no failing unit holds the expected numbers in another order",
    });
  }
  const firstNonFinite = all.find(({ notANumber, infinite }) => notANumber + infinite > 0);
  if (!firstNonFinite)
    out.push({
      suspect: "NaN or infinity in the recorded values",
      evidence: `none among the checked elements of ${all.length} recorded values`,
    });
  return out;
}

function worst(units: readonly UnitCheck[]): string {
  return Math.max(...units.map(({ statistics }) => statistics.rmsZ)).toFixed(2);
}

/** max |q| · max |k| · head_dim · scale over layers whose q and k did not leave float32's range upstream. */
function largestScore(investigation: Investigation, attentions: readonly UnitCheck[]): number | undefined {
  let largest: number | undefined;
  for (const { node } of attentions) {
    const a = node.op.attributes as unknown as AttentionAttributes;
    const norms = node.inputs.slice(0, 2).map((name) => {
      const source =
        investigation.observations.outputRows(name).length > 0 ? name : investigation.graph.node(name).inputs[0]!;
      if (investigation.observations.outputRows(source).length === 0) return undefined;
      const { rows } = investigation.sample(source);
      const width = investigation.graph.node(source).columns;
      let most = 0;
      for (const row of rows) {
        const value = investigation.observations.output(source, row)!.value;
        for (let h = 0; h < width; h += a.headDim)
          most = Math.max(most, Math.sqrt(exactArithmetic.dot(value, h, value, h, a.headDim)));
      }
      return most;
    });
    if (norms.some((norm) => norm === undefined || !Number.isFinite(norm))) continue;
    const score = norms[0]! * norms[1]! * a.scale;
    if (largest === undefined || score > largest) largest = score;
  }
  return largest;
}

function largestWeight(investigation: Investigation, norms: readonly UnitCheck[]): number {
  let largest = 0;
  for (const { node } of norms) {
    const weight = node.op.attributes.weight;
    if (typeof weight === "string")
      for (const w of investigation.parameters.rows(weight, 0, 1)) largest = Math.max(largest, Math.abs(w));
  }
  return largest;
}

/** Layers of an even spread that the sweep looks at. */
const sweptLayers = 4;

/** The K-scale sweep: where attention's output is far from every scale's, or the same at all of them, scale is not the cause. */
function scaleSweep(
  investigation: Investigation,
  attentions: readonly UnitCheck[],
): { suspect: string; evidence: string } | undefined {
  const passing = attentions.filter((check) => check.excess <= 1);
  if (passing.length === 0 || passing.length < attentions.length) return undefined;
  const factors = [0.0005, 0.01, 0.1, 1];
  const indifferent: number[] = [];
  const needed: number[] = [];
  const stride = Math.ceil(passing.length / sweptLayers);
  for (const { node, recipe } of passing.filter((_, i) => i % stride === 0)) {
    const a = node.op.attributes as unknown as AttentionAttributes;
    const sample = thin(investigation, node.name);
    const fits = factors.filter((factor) => {
      if (factor === 1) return true;
      const evaluator = investigation.evaluator.rewritten([
        replaced(node, { op: attention({ ...a, scale: a.scale * factor }) }),
      ]);
      return withScratch(() =>
        recipe
          ? investigation.checkUnder(node.name, recipe, evaluator, sample, undefined, true).matched
          : investigation.checkNoise(node.name, evaluator, sample).excess <= 1,
      );
    });
    if (fits.length === factors.length) indifferent.push(node.layer ?? 0);
    else if (fits.length === 1 && fits[0] === 1) needed.push(node.layer ?? 0);
  }
  const parts: string[] = [];
  if (needed.length > 0)
    parts.push(`in ${layers(needed.length)} only factor 1 of ${factors.join(", ")} fits what was recorded`);
  if (indifferent.length > 0)
    parts.push(`in ${layers(indifferent.length)} every factor gives the recorded output: there no K scale can matter`);
  return parts.length > 0 ? { suspect: "K magnitude (a sweep of K scales)", evidence: parts.join("; ") } : undefined;
}

function layers(count: number): string {
  return `${count} layer${count === 1 ? "" : "s"}`;
}

function thin(investigation: Investigation, name: string) {
  const { rows, columns } = investigation.sample(name);
  return { rows: rows.subarray(Math.max(0, rows.length - 2)), columns };
}

/** Whether rows hold the expected numbers, sorted, in another order: a relabelling that plain digests cannot see. */
function sameMultiset({ comparison }: UnitCheck): boolean {
  const { rows, columns, expected, observed, noise } = comparison;
  const width = columns.length;
  for (let r = 0; r < rows.length; r++) {
    const a = expected.slice(r * width, (r + 1) * width).sort();
    const b = observed.slice(r * width, (r + 1) * width).sort();
    const sigma = Math.max(
      ...Array.from(noise.subarray(r * width, (r + 1) * width), (s) => (Number.isFinite(s) ? s : 0)),
    );
    if (a.every((x) => x === 0) || !a.every((x, i) => Math.abs(x - b[i]!) <= 6 * sigma)) return false;
  }
  return true;
}
