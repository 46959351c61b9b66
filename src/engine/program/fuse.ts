import type { Graph } from "../../spec/graph.js";
import { fuseMerge, fusePrologue, fuseResidual, fuseRotary } from "./attention-rules.js";
import { valuesWritten } from "./dataflow.js";
import type { Fusions } from "./fusions.js";
import { fuseGate, fuseNorm, fuseSiblings } from "./product-rules.js";
import type { Rule, RuleContext } from "./rule.js";
import type { Step } from "./step.js";

/** The rules of each fusion, in the order in which they apply. */
function rulesOf(fusions: Fusions): Rule[] {
  const rules: Rule[] = [];
  if (fusions.gate) rules.push(fuseGate);
  if (fusions.projection) rules.push(fuseSiblings);
  rules.push((steps, context) => fuseNorm(steps, context, fusions));
  if (fusions.rotary) rules.push(fuseRotary);
  if (fusions.rotary && fusions.prologue) rules.push(fusePrologue);
  if (fusions.merge) rules.push(fuseMerge);
  if (fusions.residual) rules.push(fuseResidual);
  return rules;
}

/** The same program in fewer steps: every rule replaces neighbours by one that computes the same values. */
export function fuse(steps: readonly Step[], fusions: Fusions, context: RuleContext): Step[] {
  return rulesOf(fusions).reduce<Step[]>((program, rule) => rewrite(program, rule, context), [...steps]);
}

function rewrite(steps: readonly Step[], rule: Rule, context: RuleContext): Step[] {
  const out: Step[] = [];
  for (let at = 0; at < steps.length; ) {
    const fused = rule(steps.slice(at, at + 8), context);
    if (fused?.steps.every((step) => leavesAll(context.graph, step))) {
      out.push(...fused.steps);
      at += fused.taken;
    } else out.push(steps[at++]!);
  }
  return out;
}

/** Whether a step leaves every value that others read: one that stays inside must have no reader elsewhere. */
function leavesAll(graph: Graph, step: Step): boolean {
  const left = new Set(leftBy(step));
  return valuesWritten(graph, step).every((name) => left.has(name));
}

function leftBy(step: Step): readonly string[] {
  switch (step.kind) {
    case "project":
      return step.outputs;
    case "append":
      return [...step.caches.map(({ cache }) => cache), ...(step.prologue ? [step.prologue.rotatedQuery] : [])];
    case "attend":
      return [step.output, ...(step.prologue ? [step.keys, step.values] : [])];
    default:
      return [step.output];
  }
}
