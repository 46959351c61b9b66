import type { Investigation, UnitCheck } from "../investigation.js";
import type { Proof } from "../verdict.js";
import { type Detokenize, runFreely } from "./free-run.js";
import { type ProvableCause, reproduce } from "./reproduction.js";

/**
 * Reproduces the recording with the causes in the spec: locally unit by unit, then from its tokens. A cause without which
 * as much is reproduced is none, and is dropped.
 * @returns the causes that are needed, with the proof that they are.
 */
export function prove<C extends ProvableCause>(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  causes: readonly C[],
  detokenize: Detokenize,
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
  const free = runFreely(
    investigation,
    needed.flatMap(({ hypotheses }) => hypotheses),
    detokenize,
    notes,
  );
  const proof = { ...local, fromTokens: free?.fromTokens ?? null, repair: free?.repair ?? null, notes };
  return { needed, proof };
}
