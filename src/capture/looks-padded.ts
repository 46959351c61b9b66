import type { ModelConfig } from "../spec/models/config.js";
import type { Capture } from "./capture.js";

/** A mask that a recording without one seems to lack. */
export interface SuggestedMask {
  /** [batch, tokens], 1 for a token and 0 for padding: what `withMask` takes. */
  readonly mask: Uint8Array;
  /** The token that seems to pad. */
  readonly token: number;
  readonly side: "left" | "right";
  /** Sequences with padding. */
  readonly padded: number;
}

/** Runs of one token at one end of the rows of a batch. */
interface EndRuns {
  readonly token: number;
  readonly side: "left" | "right";
  rows: number;
  shortest: number;
  longest: number;
  total: number;
}

/**
 * Whether a plain recording without a mask looks padded: one and the same token repeated at the same end of its rows,
 * not equally often in all. Tokens that the config pads, ends or begins with come before others.
 * @returns the mask it suggests, or undefined when nothing looks padded.
 */
export function looksPadded(capture: Capture, config: ModelConfig): SuggestedMask | undefined {
  const step = capture.steps[0];
  if (capture.kind !== "plain" || capture.paddings || !step) return undefined;
  const batch = step.seq_ids.length;
  const tokens = step.token_ids.length / batch;
  const candidates = (["left", "right"] as const)
    .flatMap((side) => endRuns(step.token_ids, batch, side))
    .filter((runs) => runs.longest - ownTokens(runs, batch, config) < tokens && isUneven(runs, batch, config))
    .sort((a, b) => rank(b, config) - rank(a, config) || b.total - a.total);
  return candidates[0] && suggested(step.token_ids, batch, candidates[0], ownTokens(candidates[0], batch, config));
}

function endRuns(ids: readonly number[], batch: number, side: EndRuns["side"]): EndRuns[] {
  const found = new Map<number, EndRuns>();
  for (let b = 0; b < batch; b++) {
    const { token, length } = endRun(ids, batch, b, side);
    let runs = found.get(token);
    if (!runs) {
      runs = { token, side, rows: 0, shortest: Infinity, longest: 0, total: 0 };
      found.set(token, runs);
    }
    runs.rows++;
    runs.total += length;
    runs.shortest = Math.min(runs.shortest, length);
    runs.longest = Math.max(runs.longest, length);
  }
  return [...found.values()];
}

function endRun(ids: readonly number[], batch: number, b: number, side: EndRuns["side"]) {
  const tokens = ids.length / batch;
  const at = (i: number) => ids[b * tokens + (side === "left" ? i : tokens - 1 - i)]!;
  const token = at(0);
  let length = 1;
  while (length < tokens && at(length) === token) length++;
  return { token, length };
}

/** A single token at an end is no padding unless the config knows it; neither is what all rows have alike. */
function isUneven(runs: EndRuns, batch: number, config: ModelConfig): boolean {
  if (runs.rows === batch && runs.shortest === runs.longest) return false;
  return runs.longest > 1 || rank(runs, config) > 1;
}

/** Tokens at that end that belong to the text: one that every row begins or ends with and the model knows as such. */
function ownTokens({ token, side, rows }: EndRuns, batch: number, config: ModelConfig): number {
  const ofText = side === "left" ? token === config.beginToken : config.endTokens.includes(token);
  return rows === batch && ofText && token !== config.padToken ? 1 : 0;
}

function rank({ token }: EndRuns, { padToken, endTokens, beginToken }: ModelConfig): number {
  return token === padToken ? 3 : endTokens.includes(token) || token === beginToken ? 2 : 1;
}

function suggested(ids: readonly number[], batch: number, runs: EndRuns, own: number): SuggestedMask {
  const { token, side } = runs;
  const tokens = ids.length / batch;
  const mask = new Uint8Array(ids.length).fill(1);
  let padded = 0;
  for (let b = 0; b < batch; b++) {
    const run = endRun(ids, batch, b, side);
    const pads = run.token === token ? run.length - own : 0;
    if (pads > 0) padded++;
    const from = b * tokens + (side === "left" ? 0 : tokens - pads);
    mask.fill(0, from, from + pads);
  }
  return { mask, token, side, padded };
}
