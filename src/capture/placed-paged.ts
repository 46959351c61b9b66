import type { GraphNode } from "../spec/graph.js";
import { InputError } from "../tensor/errors.js";
import type { Capture, PagedRecord } from "./capture.js";
import { firstColumnOf, partOf } from "./placed-dense.js";

/** A paged record with the page table of its step. */
export interface PlacedPaged {
  readonly record: PagedRecord;
  readonly stepIndex: number;
  /** The shards that make up the value, where several ranks hold the pages of some heads each; `record` is the first one's. */
  readonly parts?: readonly { readonly placed: PlacedPaged; readonly first: number }[] | undefined;
}

/**
 * Pages as one rank holds them, or put together from the heads of several.
 * @returns undefined where the ranks do not share one page table: a slot of one says nothing about another's.
 * @throws InputError when the heads are not the model's.
 */
export function placePaged(
  records: readonly PagedRecord[],
  stepIndex: number,
  node: GraphNode,
  capture: Capture,
): PlacedPaged | undefined {
  const parts = records.map((record) => {
    const own = record.shard ? partOf(node, record.shard) : node;
    const { heads, head_dim: headDim } = record.view;
    if (heads * headDim !== own.columns || heads !== own.heads) {
      throw new InputError(
        `${capture.path}: "${record.name}" of step ${record.step}: view has ${heads} heads of ${headDim}, the model ${own.heads} heads of ${own.columns / (own.heads ?? 1)}: recorded with another model?`,
      );
    }
    return { placed: { record, stepIndex }, first: record.shard ? firstColumnOf(node, record.shard) : 0 };
  });
  const [{ placed }] = parts as [(typeof parts)[number]];
  if (!placed.record.shard) return placed;
  if (!records.every(({ rank }) => sharesPages(capture, stepIndex, rank!))) return undefined;
  return { ...placed, parts };
}

function sharesPages({ steps, ranks }: Capture, stepIndex: number, rank: number): boolean {
  const own = ranks!.steps.get(rank)![stepIndex]!;
  const first = steps[stepIndex]!;
  return (["page_size", "kv_indptr", "kv_indices", "slot_mapping"] as const).every(
    (field) => String(own[field]) === String(first[field]),
  );
}
