import { readersOf } from "./dataflow.js";
import { turnAlike } from "./rotation.js";
import { computedBy, type Rule, type RuleContext } from "./rule.js";
import type { NormStep, Prologue, RotateStep, Step } from "./step.js";

/** QK-norm, RoPE of queries and keys, and both appends. */
export const fuseRotary: Rule = (steps, context) => {
  const norms = steps.slice(0, 2).filter((step): step is NormStep => step.kind === "norm");
  if (norms.length === 1) return undefined;
  const [query, key, first, second] = steps.slice(norms.length);
  if (query?.kind !== "rotate" || key?.kind !== "rotate") return undefined;
  if (first?.kind !== "append" || second?.kind !== "append") return undefined;
  const caches = [...first.caches, ...second.caches];
  const keys = caches.find(({ holds }) => holds === "keys");
  const values = caches.find(({ holds }) => holds === "values");
  if (keys?.input !== key.output || !values || first.prologue || second.prologue) return undefined;
  const rotated = prologueOf(norms, query, key, values.input, context.slotOf);
  if (!rotated || !liesTogether(rotated, context)) return undefined;
  const label = norms.length > 0 ? "qk_norm+rope+append" : "rope+append";
  const taken = norms.length + 4;
  const computes = computedBy(...steps.slice(0, taken));
  return { taken, steps: [{ kind: "append", label, computes, caches: [keys, values], prologue: rotated }] };
};

/** Whether queries, keys and values are one product's rows, side by side. */
function liesTogether({ query, key, value }: Prologue, { graph, slotOf }: RuleContext): boolean {
  const products = [query, key, value].map((name) => graph.node(name).op);
  if (products.some(({ kind }) => kind !== "linear")) return false;
  return slotOf(products.map(({ attributes }) => String(attributes.weight))) !== undefined;
}

function prologueOf(
  norms: readonly NormStep[],
  query: RotateStep,
  key: RotateStep,
  value: string,
  slotOf: (parameters: readonly string[]) => string | undefined,
): Prologue | undefined {
  const { rotation } = query;
  const common = {
    value,
    rotation,
    rotatedQuery: query.output,
    rotatedKey: key.output,
    keyHeads: key.rotation.heads,
  };
  if (!turnAlike(key.rotation, rotation)) return undefined;
  if (norms.length === 0) return { ...common, query: query.input, key: key.input };
  const [queryNorm, keyNorm] = norms as [NormStep, NormStep];
  if (query.input !== queryNorm.output || key.input !== keyNorm.output) return undefined;
  if (queryNorm.width !== rotation.headDim || keyNorm.width !== rotation.headDim) return undefined;
  // One epsilon, and gains that follow one another: what the kernels take.
  if (queryNorm.epsilon !== keyNorm.epsilon || !slotOf([queryNorm.weight, keyNorm.weight])) return undefined;
  return { ...common, query: queryNorm.input, key: keyNorm.input, norms: { query: queryNorm, key: keyNorm } };
}

/** All that inside the attention that reads it. */
export const fusePrologue: Rule = ([append, attend]) => {
  if (append?.kind !== "append" || !append.prologue || attend?.kind !== "attend") return undefined;
  if (attend.query !== append.prologue.rotatedQuery) return undefined;
  const caches = append.caches.map(({ cache }) => cache);
  if (attend.keys !== caches[0] || attend.values !== caches[1]) return undefined;
  const computes = computedBy(append, attend);
  const label = `${append.label}+${attend.label}`;
  return { taken: 2, steps: [{ ...attend, label, computes, prologue: append.prologue }] };
};

/** The merge of attention states inside the product that alone reads the result. */
export const fuseMerge: Rule = ([attend, project], { graph }) => {
  if (attend?.kind !== "attend" || project?.kind !== "project" || project.input !== attend.output) return undefined;
  if (!readersOf(graph, attend.output).every((reader) => project.computes.includes(reader))) return undefined;
  return {
    taken: 2,
    steps: [
      { ...attend, mergedBy: "consumer" },
      { ...project, label: `merge+${project.label}`, merges: true },
    ],
  };
};

/** The sum with the residual stream inside the product before it. */
export const fuseResidual: Rule = ([project, add]) => {
  if (project?.kind !== "project" || project.outputs.length !== 1 || project.gated) return undefined;
  if (add?.kind !== "pointwise" || add.operation !== "add") return undefined;
  const at = add.inputs.indexOf(project.outputs[0]!);
  if (at < 0) return undefined;
  const fused: Step = {
    ...project,
    label: `${project.label}+residual`,
    computes: computedBy(project, add),
    outputs: [add.output],
    residual: add.inputs[1 - at]!,
  };
  return { taken: 2, steps: [fused] };
};
