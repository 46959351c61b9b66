import type { GraphNode } from "../../spec/graph.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import type { Proposal, Search } from "./proposal.js";
import { replaced } from "./transform.js";
import { worldOf } from "./world.js";

/** Sites of a kind in a run that has ranks. */
export const amongRanks =
  (...kinds: readonly string[]): Search["appliesTo"] =>
  ({ site, investigation }) =>
    worldOf(investigation) > 1 && kinds.includes(site.op.kind);

/** A term of a sum over ranks: the sum, and whose term it is. */
export interface Term {
  readonly sum: GraphNode;
  readonly rank: number;
  readonly of: number;
}

/** Whose term of which sum a site is; undefined for anything else. */
export function termOf({ site, investigation }: Proposal): Term | undefined {
  const { graph } = investigation;
  const sum = graph
    .consumers(site.name)
    .map((name) => graph.node(name))
    .find(({ op }) => op.kind === "all-reduce");
  return sum && { sum, rank: sum.inputs.indexOf(site.name), of: sum.inputs.length };
}

/** Every rank's term of a sum whose terms were not recorded; undefined where they were. */
export function unrecordedTerms({
  site,
  investigation,
}: Proposal): { term: GraphNode; a: LinearAttributes }[] | undefined {
  const { graph, observations } = investigation;
  if (site.inputs.some((name) => observations.has(name) || graph.node(name).op.kind !== "linear")) return undefined;
  return site.inputs.map((name) => {
    const term = graph.node(name);
    return { term, a: term.op.attributes as unknown as LinearAttributes };
  });
}

/** The nodes of a rewrite of every rank's term, where none was recorded. */
export function inEveryTerm(
  proposal: Proposal,
): (change: (node: GraphNode, rank: number) => Partial<GraphNode>) => GraphNode[] {
  const terms = unrecordedTerms(proposal) ?? [];
  return (change) => terms.map(({ term }, rank) => replaced(term, change(term, rank)));
}
