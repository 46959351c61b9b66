import type { Graph } from "../../spec/graph.js";
import type { ProjectStep, Step } from "./step.js";

/** What rules ask about the model and about the back end's kernels. */
export interface RuleContext {
  readonly graph: Graph;
  /** Name of the slot that holds exactly these parameters one after the other, or undefined. */
  slotOf(parameters: readonly string[]): string | undefined;
  /** Whether a product's kernel normalises its input itself. */
  takesNorm(step: ProjectStep): boolean;
}

/** A rewrite of the first steps of a list: how many are taken away, and what stands in their place. */
export type Rule = (
  steps: readonly Step[],
  context: RuleContext,
) => { readonly taken: number; readonly steps: readonly Step[] } | undefined;

/** The values of several steps, in order. */
export function computedBy(...steps: readonly Step[]): string[] {
  return steps.flatMap(({ computes }) => computes);
}
