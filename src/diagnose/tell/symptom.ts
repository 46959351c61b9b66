import type { GraphNode } from "../../spec/graph.js";
import { float32Max } from "../../spec/noise.js";
import { short } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Magnitude } from "../check/unit-check.js";
import { type Detokenize, recordedSample } from "../prove/free-run.js";

/** What the recorded numbers of one unit look like. */
export interface UnitMagnitude extends Magnitude {
  readonly node: GraphNode;
}

/** Magnitudes of every recorded value, in execution order. */
export function magnitudes(checks: readonly UnitCheck[]): UnitMagnitude[] {
  return checks.map(({ node, magnitude }) => ({ node, ...magnitude }));
}

/**
 * The way from the first broken number to the token, told from the recorded values alone: where magnitudes leave
 * float32's range, where norms turn them to zeros or NaN, what the logits and the argmax make of it.
 */
export function symptomChain(
  investigation: Investigation,
  all: readonly UnitMagnitude[],
  detokenize: Detokenize,
): string[] {
  const chain: string[] = [];
  const stream = all.filter(({ node }) => isStream(node));
  const squaresOverflow = all.find(
    ({ node, largest }) => largest * largest > float32Max && node.op.kind !== "embedding",
  );
  if (squaresOverflow) {
    chain.push(
      `${squaresOverflow.node.name} reaches ${short(squaresOverflow.largest)}; anything above 1.8e19 has a square beyond float32`,
    );
  }
  const nonFinite = all.find(({ notANumber, infinite }) => notANumber + infinite > 0);
  if (nonFinite) {
    chain.push(
      `${nonFinite.node.name} is the first value with ${nonFinite.notANumber} NaN and ${nonFinite.infinite} infinities`,
    );
  }
  const norms = all.filter(
    ({ node, zeros, notANumber }) =>
      node.op.kind === "rmsnorm" && (zeros || notANumber > 0) && overflowsBefore(investigation, node, all),
  );
  if (norms.length > 0) {
    const shown = norms.slice(0, 4).map(({ node }) => place(node));
    const outputs = norms.every(({ zeros }) => zeros) ? "all zeros" : "zeros or NaN";
    chain.push(`x² overflows float32 in RMSNorm (${shown.join(", ")}): rsqrt(infinity) is 0, the output is ${outputs}`);
  }
  const dead = stream.find(({ zeros }) => zeros);
  if (dead) {
    const last = stream.at(-1)!;
    const toEnd = stream.slice(stream.indexOf(dead)).every(({ zeros }) => zeros);
    chain.push(
      `the residual stream is exactly 0 ${toEnd && last !== dead ? `from layer ${dead.node.layer} to layer ${last.node.layer}` : `after layer ${dead.node.layer}`}: nothing carries the signal past it`,
    );
  }
  const logits = all.find(({ node }) => node.site.what === "logits");
  const lastRow =
    investigation.observations.rows.steps[0]!.firstRow + investigation.observations.rows.steps[0]!.qoIndptr[1]! - 1;
  const token = recordedSample(investigation, lastRow);
  if (logits && (logits.constant || logits.notANumber > 0)) {
    chain.push(
      logits.zeros
        ? "the logits are all 0"
        : logits.notANumber > 0
          ? `the logits hold ${logits.notANumber} NaN`
          : "the logits are all equal",
    );
  }
  if (token !== undefined && (chain.length > 0 || token === 0)) {
    const text = detokenize?.([token]);
    chain.push(`argmax takes index ${token}${text === undefined ? "" : `, which is ${JSON.stringify(text)}`}`);
  }
  return chain;
}

/** Whether a value is what a layer leaves of the residual stream. */
function isStream({ name, site }: GraphNode): boolean {
  return name === site.name && site.what === "stream" && site.block === "mlp";
}

/** "input_layernorm of layer 2". */
function place({ name, layer }: GraphNode): string {
  return layer === undefined ? name : `${name.split(".").at(-1)} of layer ${layer}`;
}

/** Whether a norm's input has squares beyond float32: recorded itself, or as the sum it rests on. */
function overflowsBefore(investigation: Investigation, node: GraphNode, all: readonly UnitMagnitude[]): boolean {
  const leaves = new Set(investigation.interior(node.name).flatMap((inner) => inner.inputs));
  return all.some((m) => leaves.has(m.node.name) && m.largest * m.largest > float32Max);
}
