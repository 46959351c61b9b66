import type { Placement } from "../importers/names-file.js";
import type { GraphNode } from "../spec/graph.js";
import { isPlaceable, waysLeft } from "./by-content.js";
import type { ContentSearch } from "./content-search.js";
import type { MappingContext } from "./map-names.js";

/** Tensors that are tried as one value, and values that are tried, before the rest is left as it is. */
const maxWays = 16;
const maxTried = 6;

/**
 * The first value that a tensor can be placed as though it has nobody's bits, as the values of a run with a fault have: a
 * tensor from whose numbers another tensor follows as the spec has it is the value between them; and where the dump is in
 * order of production, the only tensor of a shape between two that are placed is the only value of that shape between theirs.
 * A person has to agree.
 */
export function placeByOrder(
  context: MappingContext,
  placed: readonly Placement[],
  search: ContentSearch,
  budget: { left: number },
): Placement | undefined {
  // A fault stands before all that follows from it.
  const open = [...context.graph.nodes.values()].filter((node) => isPlaceable(node) && !search.has(node.name));
  for (const node of open.filter((each) => waysLeft(context, placed, each).length > 0).slice(0, maxTried)) {
    const placement = byFollowing(context, placed, node, search, budget) ?? byPlace(context, placed, node);
    if (placement) return placement;
  }
  return undefined;
}

/** A tensor that, taken for the value, makes one that is not placed yet, or did not follow before, follow from it. */
function byFollowing(
  context: MappingContext,
  placed: readonly Placement[],
  node: GraphNode,
  search: ContentSearch,
  budget: { left: number },
): Placement | undefined {
  const ways = waysLeft(context, placed, node);
  if (ways.length === 0 || ways.length > Math.min(maxWays, budget.left)) return undefined;
  budget.left -= ways.length;
  const consumers = context.graph
    .consumers(node.name)
    .map((name) => context.graph.node(name))
    .filter(isPlaceable);
  const proven = ways.flatMap(({ placement }) => {
    const supposed = search.supposing(placement);
    const with_ = [...placed, placement];
    const follower = consumers.find((consumer) => {
      if (search.has(consumer.name)) return !search.follows(consumer.name) && supposed.follows(consumer.name);
      const near = supposed.near(consumer, waysLeft(context, with_, consumer));
      return near !== undefined && supposed.confirmed(consumer, near).length > 0;
    });
    return follower ? [{ placement, follower }] : [];
  });
  if (proven.length !== 1) return undefined;
  const { placement, follower } = proven[0]!;
  return {
    ...placement,
    unsure: true,
    evidence: `not the bits the spec gives, but ${follower.name} follows from it`,
  };
}

function byPlace(context: MappingContext, placed: readonly Placement[], node: GraphNode): Placement | undefined {
  const { dump, graph, tensors } = context;
  if (!dump.ordered) return undefined;
  const order = [...graph.nodes.keys()];
  const here = order.indexOf(node.name);
  const places = placed.flatMap(({ tensor, value, role }) => {
    const [at, of] = [tensors.findIndex(({ name }) => name === tensor), order.indexOf(value)];
    return role === "input" || of < 0 ? [] : [{ at, of }];
  });
  const before = Math.max(-1, ...places.filter(({ of }) => of < here).map(({ at }) => at));
  const after = Math.min(tensors.length, ...places.filter(({ of }) => of > here).map(({ at }) => at));
  const previous = Math.max(-1, ...places.filter(({ of }) => of < here).map(({ of }) => of));
  const next = Math.min(order.length, ...places.filter(({ of }) => of > here).map(({ of }) => of));
  if (before >= after) return undefined;
  const ways = waysLeft(context, placed, node).filter(({ tensor }) => {
    const at = tensors.indexOf(tensor);
    return at > before && at < after;
  });
  const rivals = order
    .slice(previous + 1, next)
    .map((name) => graph.node(name))
    .filter((other) => isPlaceable(other) && other.columns === node.columns && other.op.kind !== "identity");
  if (ways.length !== 1 || rivals.length !== 1 || rivals[0] !== node) return undefined;
  return { ...ways[0]!.placement, unsure: true, evidence: "the only one of its shape between its neighbours" };
}
