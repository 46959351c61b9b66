import type { GraphNode } from "../../spec/graph.js";
import type { Hypothesis } from "../causes/hypothesis.js";

/** Nodes of several hypotheses; where two rewrite one node, the later wins. */
export function combine(hypotheses: readonly Hypothesis[]): GraphNode[] {
  const nodes = new Map<string, GraphNode>();
  const chosen = new Set(hypotheses);
  for (const { replacements, also, alone } of hypotheses) {
    for (const node of alone && also && !chosen.has(also) ? alone : replacements) nodes.set(node.name, node);
  }
  return [...nodes.values()];
}
