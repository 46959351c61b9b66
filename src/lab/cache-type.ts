import type { Graph } from "../spec/graph.js";
import { emptyBlock, type Op } from "../spec/op.js";
import type { DType } from "../tensor/dtype.js";
import { quantise } from "../tensor/scaled-type.js";

/** The scales of one cache. In a correct run what is read is what was written, and what is claimed is true. */
export interface CacheScales {
  /** What values are divided by when they are stored. */
  readonly written: number;
  /** What stored numbers are multiplied by when they are read. @default written */
  readonly read?: number;
  /** What the views of writer and reader say; nothing unless given. */
  readonly claimed?: { readonly output?: number; readonly input?: number };
}

/** The type of a run's KV caches, and the scales of each by its name. */
export interface CacheType {
  readonly dtype: DType;
  readonly scales?: (name: string) => CacheScales;
  /** Whether readers round what they dequantise to the type between ops; else they apply the scale to scores and sums. */
  readonly roundedReads?: boolean;
}

/** The scales of a cache, all given. */
export function scalesOf({ scales }: CacheType, name: string): Required<CacheScales> {
  const { written, read = written, claimed = {} } = scales?.(name) ?? { written: 1 };
  return { written, read, claimed };
}

/** The same model with caches of that type: attention reads what they keep. */
export function underCacheType(graph: Graph, type: CacheType): Graph {
  return graph.with(
    [...graph.nodes.values()]
      .filter(({ op }) => op.kind === "append")
      .map((node) => ({ ...node, op: kept(node.op, node.name, type) })),
  );
}

function kept(append: Op, name: string, type: CacheType): Op {
  const { written, read } = scalesOf(type, name);
  return {
    ...append,
    stored: !type.roundedReads,
    evaluate(context, rows, columns) {
      const out = emptyBlock(rows.length * columns.length, false);
      const { value } = append.evaluate(context, rows, columns);
      for (let i = 0; i < value.length; i++) {
        out.value[i] = quantise(value[i]!, { dtype: type.dtype, scale: written }) * read;
      }
      return out;
    },
  };
}

/** The numbers a cache keeps of values as they are read. */
export function storedNumbers(values: Float64Array, name: string, type: CacheType): Float64Array {
  const { read } = scalesOf(type, name);
  return values.map((value) => quantise(value, { dtype: type.dtype, scale: read }));
}
