import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { combine } from "../explain/combine.js";
import type { Proof } from "./proof.js";

/** A cause as proof needs it: the rewrites that write it into the spec, and the units it touches. */
export interface ProvableCause {
  readonly hypotheses: readonly Hypothesis[];
}

/** The recording reproduced unit by unit, with all causes in the spec and with each of them left out. */
export function reproduce(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  causes: readonly ProvableCause[],
): Pick<Proof, "reproduced" | "necessity"> {
  const all = causes.flatMap((cause) => cause.hypotheses);
  const passed = new Set(checks.filter((check) => check.excess <= 1).map((check) => check.node.name));
  const given = new Set(checks.filter((check) => check.matched).map((check) => check.node.name));
  const touchedBy = causes.map((cause) => touchedUnits(investigation, checks, cause.hypotheses));
  const touched = new Set(touchedBy.flatMap((names) => [...names]));
  const recipesOf = new Map(all.flatMap(({ recipes }) => [...(recipes ?? [])]));
  const matchedWith = (chosen: readonly number[], names: ReadonlySet<string>) => {
    const evaluator = investigation.evaluator.rewritten(combine(chosen.flatMap((i) => causes[i]!.hypotheses)));
    return new Set(
      [...names].filter((name) => {
        const recipe = recipesOf.get(name);
        // Where a recipe gives the bits, being within rounding is not enough.
        const byBits = recipe !== undefined || given.has(name);
        // What no rewrite reaches was judged already.
        if (!chosen.some((i) => touchedBy[i]!.has(name))) return (byBits ? given : passed).has(name);
        const check = investigation.checkRewritten(name, evaluator, recipe ? [recipe] : []);
        return byBits ? check.matched : check.excess <= 1;
      }),
    );
  };
  const every = causes.map((_, i) => i);
  const reproduced = matchedWith(every, touched);
  const countMatched = (names: ReadonlySet<string>, matched: ReadonlySet<string>) =>
    checks.filter(({ node }) =>
      names.has(node.name)
        ? matched.has(node.name)
        : touched.has(node.name)
          ? reproduced.has(node.name)
          : passed.has(node.name),
    ).length;
  const necessity = causes.map((_, without) => {
    const rest = every.filter((i) => i !== without);
    return { without, matched: countMatched(touchedBy[without]!, matchedWith(rest, touchedBy[without]!)) };
  });
  return { reproduced: { matched: countMatched(touched, reproduced), of: checks.length }, necessity };
}

/** Units whose evaluation a rewrite can change. */
function touchedUnits(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  hypotheses: readonly Hypothesis[],
): Set<string> {
  const rewritten = new Set(combine(hypotheses).map((node) => node.name));
  return new Set(
    checks
      .filter(({ node }) => investigation.interior(node.name).some((inner) => rewritten.has(inner.name)))
      .map(({ node }) => node.name),
  );
}
