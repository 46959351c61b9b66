import { decoderGraph } from "../../spec/models/decoder.js";
import { indices } from "../../spec/op.js";
import { FreeRun, recordedSample, whyNotRunAgain } from "../prove/free-run.js";
import type { AlignedRows } from "./aligned-rows.js";
import type { JudgedRun } from "./judged-run.js";
import { distance } from "./three-way.js";

/** How far two runs and the model in float64, from the tokens alone, are apart after the first step. */
export interface AgainstTokens {
  /** The residual stream layer by layer, then the logits, in the last row of the first sequence. */
  readonly values: readonly {
    readonly value: string;
    /** ‖target − spec‖ / ‖spec‖; null where it is not a number. */
    readonly target: number | null;
    readonly reference: number | null;
  }[];
  /** What each run says next, and what the model says in float64; null where it was not recorded. */
  readonly tokens: { readonly target: number | null; readonly reference: number | null; readonly spec: number };
}

/**
 * Runs the model in float64 from the tokens of the target's first step: which of two runs is nearer? Distances grow from
 * layer to layer in correct runs too, and are no evidence against one.
 * @returns null, with a note that says why, where the model is too large for it or the first row has no counterpart.
 */
export function againstTokens(
  target: JudgedRun,
  reference: JudgedRun,
  rows: AlignedRows,
  notes: string[],
): AgainstTokens | null {
  const [ours, theirs] = [target.investigation, reference.investigation];
  const refused = whyNotRunAgain(ours);
  if (refused !== undefined) {
    notes.push(refused);
    return null;
  }
  const run = new FreeRun(ours, decoderGraph(ours.config));
  const { firstRow, qoIndptr } = ours.observations.rows.steps[0]!;
  const row = firstRow + qoIndptr[1]! - 1;
  const others = rows.of(row);
  if (others.length === 0) return null;
  const names = [...indices(ours.config.layerCount + 1)].map((layer) => ours.graph.streamBefore(layer).name);
  const values = [...names, ours.graph.at({ what: "logits" })!.name].flatMap((value) => {
    const a = ours.observations.output(value, row)?.value;
    const b = others.map((other) => theirs.observations.output(value, other)?.value).find((seen) => seen);
    if (!a || !b) return [];
    const spec = run.row(value);
    return [{ value, target: distance(a, spec), reference: distance(b, spec) }];
  });
  const said = (side: JudgedRun["investigation"], last: number) => recordedSample(side, last) ?? null;
  return { values, tokens: { target: said(ours, row), reference: said(theirs, others[0]!), spec: run.token() } };
}
