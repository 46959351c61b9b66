import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { Quantisation } from "../../tensor/quantisation.js";
import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";
import type { Graph, GraphNode } from "../graph.js";
import type { LinearAttributes } from "../ops/linear.js";
import type { OperandQuantisation } from "../ops/linear-recipes.js";
import type { What } from "../site.js";
import { described } from "./operand-names.js";

/** Projections of one input that serving engines hold as one matrix: vLLM's `packed_modules_mapping`. */
const groups: readonly (readonly What[])[] = [
  ["query", "key", "value"],
  ["gate", "up"],
];

/** The quantised weights that a runtime may merge with `node`'s, its own among them; none where it stands alone. */
export function mergedProjections(graph: Graph, node: GraphNode, parameters: ParameterReader): QuantisedParameter[] {
  const group = groups.find((members) => members.includes(node.site.what));
  if (!group) return [];
  const { what: _, ...place } = node.site;
  const found = group.flatMap((what) => {
    const member = graph.at({ ...place, what });
    if (member?.op.kind !== "linear" || member.inputs[0] !== node.inputs[0]) return [];
    return parameters.quantised?.((member.op.attributes as unknown as LinearAttributes).weight) ?? [];
  });
  return found.length > 1 ? found : [];
}

/** From this scale on float16 holds every number of e4m3 times the scale: steps of 2^-9 are 2^-24 there. */
const finestInFloat16 = 2 ** -15;

/**
 * The scale that vLLM gives merged projections in fp8 with one scale each: the largest of theirs, to which the numbers of all
 * are requantised (`requantize_with_max_scale`; fp8, compressed-tensors, ModelOpt).
 */
export function mergedScale(own: QuantisedParameter, merged: readonly QuantisedParameter[]): number | undefined {
  const scale = own.tensorScale?.();
  if (scale === undefined) return undefined;
  // One that stands alone is brought to its own scale, which changes it only where float16 is coarser than its numbers.
  if (merged.length === 0) return scale < finestInFloat16 ? scale : undefined;
  const scales = merged.map((weight) => weight.tensorScale?.());
  return scales.length > 0 && scales.every((scale) => scale !== undefined) ? Math.max(...scales) : undefined;
}

/**
 * The operand's own scale, as it was fixed beforehand, of merged projections: the largest of theirs. NVFP4's factor is kept
 * as what multiplies (compressed-tensors) or as what divides (ModelOpt), and vLLM takes the largest of what is kept.
 */
export function mergedOperands(
  own: QuantisedParameter,
  merged: readonly QuantisedParameter[],
): readonly OperandQuantisation[] {
  return own.operands.flatMap((operand, i) => {
    const all = merged.map(({ operands }) => operands[i]).filter((other) => other?.format === operand.format);
    if (all.length === 0 || all.length < merged.length) return [];
    const values = (field: "fixed" | "global") => all.map((other) => other![field]).filter((x) => x !== undefined);
    const under = (change: Partial<Quantisation>, words: string) => described({ ...operand, ...change }, words);
    if (operand.fixed !== undefined) return [under({ fixed: Math.max(...values("fixed")) }, "the largest")];
    if (operand.global === undefined) return [];
    return [
      under({ global: Math.max(...values("global")) }, "the largest factor"),
      under({ global: Math.min(...values("global")) }, "the smallest factor"),
    ];
  });
}
