import type { Evaluator } from "../../spec/evaluator.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation } from "../check/investigation.js";
import type { Explanation } from "./explanation.js";

/** Whether rewrites leave right what is right: one that reaches other units must not break those the spec gives. */
export class Consistency {
  readonly #right = new Map<string, "bits" | "rounding" | "wrong">();

  constructor(readonly investigation: Investigation) {}

  /** The explanations of a unit that break no other unit; all of them when each does. */
  filter(unit: string, explanations: readonly Explanation[]): Explanation[] {
    if (explanations.length < 2) return [...explanations];
    const consistent = explanations.filter(({ hypothesis }) => !this.#breaks(unit, hypothesis));
    return consistent.length > 0 ? consistent : [...explanations];
  }

  #breaks(unit: string, { replacements }: Hypothesis): boolean {
    const { investigation } = this;
    const others = new Set(replacements.flatMap(({ name }) => [...this.#unitsOver(name)]));
    others.delete(unit);
    let evaluator: Evaluator | undefined;
    for (const other of others) {
      const before = this.#rightness(other);
      if (before === "wrong") continue;
      evaluator ??= investigation.evaluator.rewritten(replacements);
      const check = investigation.checkRewritten(other, evaluator);
      if (before === "bits" ? !check.matched : check.excess > 1) return true;
    }
    return false;
  }

  /** How the spec gives a unit. */
  #rightness(name: string): "bits" | "rounding" | "wrong" {
    let right = this.#right.get(name);
    if (!right) {
      const check = this.investigation.checkRewritten(name, this.investigation.evaluator);
      right = check.matched ? "bits" : check.excess <= 1 ? "rounding" : "wrong";
      this.#right.set(name, right);
    }
    return right;
  }

  /** Recorded units whose evaluation passes through a value. */
  #unitsOver(name: string): Set<string> {
    const { graph, observations } = this.investigation;
    const found = new Set<string>();
    const seen = new Set<string>();
    const visit = (value: string) => {
      if (seen.has(value) || !graph.find(value)) return;
      seen.add(value);
      if (observations.has(value)) found.add(value);
      else graph.consumers(value).forEach(visit);
    };
    visit(name);
    return found;
  }
}
