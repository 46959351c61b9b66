import { Graph, type GraphNode } from "./graph.js";
import { allReduce } from "./ops/all-reduce.js";
import { type EmbeddingAttributes, embedding } from "./ops/embedding.js";
import { type LinearAttributes, linear } from "./ops/linear.js";
import { roleOf, type Site } from "./site.js";

/** A stretch of an axis. */
export interface Stretch {
  readonly first: number;
  readonly count: number;
}

/** Part `part` of `of` of `size` things in a row: equal parts, the last ones shorter or empty, as torch.chunk cuts. */
export function stretchOf(size: number, part: number, of: number): Stretch {
  const each = Math.ceil(size / of);
  const first = Math.min(size, part * each);
  return { first, count: Math.min(size, first + each) - first };
}

/** The value that one rank adds to the sum `name`. */
export function termName(name: string, part: number): string {
  return `${name}.partial.${part}`;
}

/** The terms of all ranks have one role: they are made by the same kernel. */
function siteOfTerm({ name, site }: GraphNode, part: number): Site {
  return { ...site, what: "term", name: termName(name, part), role: `${site.role}.partial.*` };
}

/**
 * Products whose inputs the ranks hold a part each of, while all hold the result: sums over ranks, recorded or not.
 * @param cuts how many parts the columns of recorded values are cut into, 1 for whole ones.
 */
export function sumsOfParts(graph: Graph, cuts: ReadonlyMap<string, number>): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { name, op, inputs } of graph.nodes.values()) {
    const of = op.kind === "linear" ? (cuts.get(inputs[0]!) ?? 1) : 1;
    if (of > 1 && cuts.get(name) === 1) sums.set(name, of);
  }
  return sums;
}

/**
 * The graph with those of `sums` (value → terms) as sums over ranks that are such sums.
 * @param biasFirst roles of products whose bias the first rank adds to its term; the others' is added to the sum.
 */
export function withSums(
  graph: Graph,
  sums: ReadonlyMap<string, number>,
  vocabulary: number,
  biasFirst: ReadonlySet<string>,
): Graph {
  if (sums.size === 0) return graph;
  const nodes = [...graph.nodes.values()].flatMap((node) => {
    const of = sums.get(node.name);
    return (of !== undefined && sumOverRanks(graph, node, of, vocabulary, biasFirst.has(roleOf(node)))) || [node];
  });
  return new Graph(nodes, undefined, graph.parts);
}

/**
 * `node` as the sum over ranks that a row-parallel product or a lookup in a cut vocabulary is, with the ranks' terms.
 * @param vocabulary rows of the embedding table.
 * @param biasFirst whether the first rank adds the bias to its term.
 * @returns undefined for a value that is no sum over its inputs.
 */
function sumOverRanks(
  graph: Graph,
  node: GraphNode,
  of: number,
  vocabulary: number,
  biasFirst: boolean,
): GraphNode[] | undefined {
  const parts = Array.from({ length: of }, (_, part) => part);
  const terms = parts.map((part) => ({ ...node, name: termName(node.name, part), site: siteOfTerm(node, part) }));
  const sum = (bias?: string): GraphNode => ({
    ...node,
    op: allReduce({ weights: parts.map(() => 1), bias }),
    inputs: terms.map(({ name }) => name),
  });
  if (node.op.kind === "embedding") {
    const a = node.op.attributes as unknown as EmbeddingAttributes;
    const lookup = (part: number) => embedding(a.weight, stretchOf(vocabulary, part, of));
    return [...terms.map((term, part) => ({ ...term, op: lookup(part) })), sum()];
  }
  if (node.op.kind !== "linear") return undefined;
  const a = node.op.attributes as unknown as LinearAttributes;
  const inputs = graph.node(node.inputs[0]!).columns;
  const product = (part: number) => {
    const { first, count } = stretchOf(inputs, part, of);
    const bias = biasFirst && part === 0 ? a.bias : undefined;
    return linear({ ...a, bias, terms: { x: first, w: first, count } });
  };
  return [...terms.map((term, part) => ({ ...term, op: product(part) })), sum(biasFirst ? undefined : a.bias)];
}
