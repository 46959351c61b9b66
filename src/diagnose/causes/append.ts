import type { Hypothesis } from "../hypothesis.js";
import { replaced } from "../transform.js";
import { type CauseFamily, hypothesis, lastName } from "./proposal.js";

/** What the KV cache was filled with instead: unrotated keys, values for keys, another layer's. */
export const appendCauses: CauseFamily = ({ site, investigation, finding }) => {
  // Where the cache was not recorded, attention's own operands say the same.
  if (site.op.kind !== "append" || site.name !== finding.node.name) return [];
  const { graph, observations } = investigation;
  const own = site.inputs[0]!;
  const out: Hypothesis[] = [];
  for (const node of graph.nodes.values()) {
    if (node.columns !== site.columns || node.heads !== site.heads || node.name === own || !observations.has(node.name))
      continue;
    if (node.op.kind === "append" || Math.abs((node.layer ?? 0) - (site.layer ?? 0)) > 1) continue;
    const sameLayer = node.layer === site.layer;
    const beforeRope = graph.node(own).op.kind === "rope" && graph.node(own).inputs[0] === node.name;
    const part = lastName(node.name);
    const cause = beforeRope
      ? "cached-before-rope"
      : sameLayer && part[0] !== lastName(own)[0]
        ? "key-value-swapped"
        : "operand-swapped";
    out.push(
      hypothesis(cause, site, [replaced(site, { inputs: [node.name] })], {
        kind: "seam",
        transform: beforeRope ? "T13" : "T12",
        parameters: { cached: part, ...(sameLayer ? {} : { layer: node.layer ?? 0 }) },
        statement: beforeRope
          ? "keys are cached before RoPE"
          : `the cache is filled with ${node.name} where ${own} belongs`,
        group: `${cause} ${part} ${(node.layer ?? 0) - (site.layer ?? 0)}`,
      }),
    );
  }
  return out;
};
