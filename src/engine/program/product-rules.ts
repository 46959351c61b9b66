import type { Graph } from "../../spec/graph.js";
import type { Fusions } from "./fusions.js";
import { computedBy, type Rule, type RuleContext } from "./rule.js";
import type { ProjectStep, Step } from "./step.js";

/** Products of one input whose weights share a slot are one product; those of a gated MLP are `fuseGate`'s. */
export const fuseSiblings: Rule = (steps, { graph, slotOf }) => {
  const [first] = steps;
  if (first?.kind !== "project" || isGate(graph, first)) return undefined;
  const siblings: ProjectStep[] = [];
  for (const step of steps) {
    if (step.kind !== "project" || step.input !== first.input || step.norm || step.gated) break;
    siblings.push(step);
  }
  for (let count = siblings.length; count > 1; count--) {
    const some = siblings.slice(0, count);
    const label = slotOf(some.flatMap(({ weights }) => weights));
    const biases = some.flatMap((step) => step.biases);
    if (label === undefined || (biases.length > 0 && slotOf(biases) === undefined)) continue;
    const fused = {
      ...first,
      label,
      computes: computedBy(...some),
      outputs: some.flatMap(({ outputs }) => outputs),
      weights: some.flatMap(({ weights }) => weights),
      biases,
    };
    return { taken: count, steps: [fused] };
  }
  return undefined;
};

/** Gate, up, SiLU and their product. */
export const fuseGate: Rule = ([gate, up, silu, multiply], { slotOf }) => {
  if (gate?.kind !== "project" || up?.kind !== "project" || gate.input !== up.input) return undefined;
  if (silu?.kind !== "pointwise" || silu.operation !== "silu" || silu.inputs[0] !== gate.outputs[0]) return undefined;
  if (multiply?.kind !== "pointwise" || multiply.operation !== "multiply") return undefined;
  if (multiply.inputs[0] !== silu.output || multiply.inputs[1] !== up.outputs[0]) return undefined;
  const weights = [...gate.weights, ...up.weights];
  const biases = [...gate.biases, ...up.biases];
  const slot = slotOf(weights);
  if (slot === undefined || (biases.length > 0 && slotOf(biases) === undefined)) return undefined;
  const computes = computedBy(gate, up, silu, multiply);
  const label = `${slot}+silu`;
  return {
    taken: 4,
    steps: [{ ...gate, label, computes, outputs: [multiply.output], weights, biases, gated: true }],
  };
};

/** Whether a product is part of a gated MLP. */
function isGate(graph: Graph, { gated, outputs }: ProjectStep): boolean {
  const inGate = (name: string) => ["activation", "multiply"].includes(graph.node(name).op.kind);
  return gated === true || outputs.some((name) => graph.consumers(name).some(inGate));
}

/** RMSNorm inside the product that alone reads it, where its kernel can. */
export function fuseNorm(
  [norm, project]: readonly Step[],
  { graph, takesNorm }: RuleContext,
  fusions: Fusions,
): ReturnType<Rule> {
  if (norm?.kind !== "norm" || project?.kind !== "project" || project.input !== norm.output) return undefined;
  const wanted = isGate(graph, project) ? project.gated && fusions.gate : fusions.projection;
  if (!wanted || !takesNorm(project)) return undefined;
  const { weight, epsilon } = norm;
  return {
    taken: 2,
    steps: [
      {
        ...project,
        label: `rmsnorm+${project.label}`,
        computes: computedBy(norm, project),
        input: norm.input,
        norm: { weight, epsilon },
      },
    ],
  };
}
