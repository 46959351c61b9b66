import { type CaptureWriter, contiguousStrides } from "../capture/writer.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { ModelConfig } from "../spec/models/config.js";
import { type Stretch, stretchOf, withSums } from "../spec/ranks.js";
import type { What } from "../spec/site.js";
import { type DType, encode } from "../tensor/dtype.js";
import { columnsOfRows } from "../tensor/quantised-parameter.js";
import type { LabModel } from "./model.js";

/** What one rank holds of a value: which part along which axis, or which term of a sum; neither: all of it. */
interface Held {
  readonly shard?: { readonly axis: "h" | "c"; readonly part: number; readonly of: number };
  readonly partial?: { readonly part: number; readonly of: number };
  /** The value it is a term of, and its columns that are held. */
  readonly name: string;
  readonly columns: Stretch;
}

const byQueryHeads = new Set<What>(["query", "query-norm", "query-rotated", "mixed"]);
const byKeyHeads = new Set<What>(["key", "key-norm", "key-rotated", "value"]);
const byColumns = new Set<What>(["gate", "up", "activated", "gated", "logits"]);

/** The graph as tensor-parallel ranks compute it: what ends a branch, and the lookup of tokens, are sums over them. */
export function overRanks(graph: Graph, { vocabularySize }: ModelConfig, ranks: number): Graph {
  const summed = [...graph.all("output"), ...graph.all("embedding")];
  return withSums(graph, new Map(summed.map(({ name }) => [name, ranks])), vocabularySize, new Set());
}

/** The key/value head part that a rank keeps: with fewer heads than ranks several keep the same. */
function keyPart(rank: number, ranks: number, { keyValueHeadCount }: ModelConfig) {
  const of = Math.min(ranks, keyValueHeadCount);
  return { part: Math.floor((rank * of) / ranks), of };
}

/**
 * What rank `rank` of `ranks` records of a value.
 * @returns undefined where it records nothing: other ranks' terms, and, but for the first rank, what all ranks hold alike.
 */
function heldBy(graph: Graph, node: GraphNode, config: ModelConfig, rank: number, ranks: number): Held | undefined {
  const { name, site, columns } = node;
  const all = { first: 0, count: columns };
  if (site.what === "term") {
    const sum = graph.consumers(name).find((reader) => name.startsWith(`${reader}.`))!;
    const part = graph.node(sum).inputs.indexOf(name);
    return part === rank ? { partial: { part, of: ranks }, name: sum, columns: all } : undefined;
  }
  const cut = (axis: "h" | "c", part: number, of: number): Held => ({
    shard: { axis, part, of },
    name,
    columns: stretchOf(columns, part, of),
  });
  if (byQueryHeads.has(site.what)) return cut("h", rank, ranks);
  if (byKeyHeads.has(site.what)) {
    const { part, of } = keyPart(rank, ranks, config);
    return cut("h", part, of);
  }
  if (byColumns.has(site.what)) return cut("c", rank, ranks);
  return rank === 0 ? { name, columns: all } : undefined;
}

/** One value of a step, all of it: [rows, columns]. */
interface RankedValue {
  readonly graph: Graph;
  readonly rows: number;
  readonly values: Float64Array;
  /** Part of the key/value heads that a rank keeps under the name of its own. */
  readonly keyPartOf?: ((rank: number) => number) | undefined;
}

/** Records what each rank of a run holds of a value. */
export function recordRanks(
  writer: CaptureWriter,
  { model, store, ranks = 1 }: { model: LabModel; store: DType; ranks?: number },
  node: GraphNode,
  { graph, rows, values, keyPartOf }: RankedValue,
): void {
  for (let rank = 0; rank < ranks; rank++) {
    const held = heldBy(graph, node, model.config, rank, ranks);
    if (!held) continue;
    const { name, columns, ...part } = held;
    const kept = byKeyHeads.has(node.site.what) ? keyPartOf?.(rank) : undefined;
    const first = kept === undefined ? columns.first : kept * columns.count;
    const own = columnsOfRows(values, node.columns, first, columns.count);
    const shape = [rows, columns.count];
    const storage = `${node.name} of rank ${rank}`;
    const view = {
      storage,
      epoch: writer.currentStep,
      dtype: store,
      shape,
      strides: contiguousStrides(shape),
      offset: 0,
    };
    writer.dense(name, "output", view, encode(own, store), undefined, store, { rank, ...part });
  }
}
