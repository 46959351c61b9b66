import type { Investigation, UnitCheck } from "../check/investigation.js";
import { type Detokenize, runFreely } from "./free-run.js";
import type { Proof } from "./proof.js";
import { type ProvableCause, reproduce } from "./reproduction.js";

export interface ProofOptions {
  readonly detokenize: Detokenize;
  /** Leave out the run from the tokens. */
  readonly quick: boolean;
}

/**
 * Reproduces the recording with the causes in the spec: locally unit by unit, then from its tokens. A cause without which
 * as much is reproduced is none, and is dropped.
 * @returns the causes that are needed, with the proof that they are.
 */
export function prove<C extends ProvableCause>(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  causes: readonly C[],
  { detokenize, quick }: ProofOptions,
): { needed: readonly C[]; proof: Proof } {
  let needed = causes;
  let local = reproduce(investigation, checks, needed);
  for (;;) {
    const idle = needed.findLastIndex(
      ({ hypotheses }, i) => hypotheses.length > 0 && local.necessity[i]!.matched >= local.reproduced.matched,
    );
    if (idle < 0) break;
    needed = needed.filter((_, i) => i !== idle);
    local = reproduce(investigation, checks, needed);
  }
  const notes: string[] = [];
  const hypotheses = needed.flatMap((cause) => cause.hypotheses);
  const free = quick ? undefined : runFreely(investigation, hypotheses, detokenize, notes);
  if (quick) notes.push("the run from its tokens was left out, as asked for");
  const proof = { ...local, fromTokens: free?.fromTokens ?? null, repair: free?.repair ?? null, notes };
  return { needed, proof };
}
