import type { DumpTensor } from "../importers/dump.js";
import type { Placement } from "../importers/names-file.js";
import type { GraphNode } from "../spec/graph.js";
import { floatFormat } from "../tensor/dtype.js";
import type { Candidate, ContentSearch } from "./content-search.js";
import { ownNames } from "./known-names.js";
import type { MappingContext } from "./map-names.js";

/** A tensor, and a way in which it may hold a value. */
export interface Way {
  readonly tensor: DumpTensor;
  readonly placement: Placement;
}

/**
 * Places tensors that have the bits of a value, in the order in which the model computes: what is placed is what the next
 * value is computed from.
 */
export function placeByContent(
  context: MappingContext,
  known: readonly Placement[],
  search: ContentSearch,
  progress: (done: number) => void,
): Placement[] {
  const placed = [...known];
  const nodes = [...context.graph.nodes.values()].filter((node) => isPlaceable(node) && !search.has(node.name));
  nodes.forEach((node, i) => {
    progress(i / nodes.length);
    const found = byBits(node, waysLeft(context, placed, node), search);
    if (!found) return;
    placed.push(found);
    search.add(found);
  });
  return placed;
}

/** Holds the names of serving stacks against what the tensors contain. */
export function checkNames(context: MappingContext, placed: readonly Placement[], search: ContentSearch): Placement[] {
  return placed.map((placement) => {
    const node = placement.role === "input" ? undefined : context.graph.find(placement.value);
    return node ? checkedName(context, placement, node, search) : placement;
  });
}

/** Caches repeat what was appended, and a sample is no row of numbers. */
export function isPlaceable({ op, name, site }: GraphNode): boolean {
  return op.kind !== "append" && op.kind !== "argmax" && site.name === name;
}

/** Ways in which tensors, or columns of them, that are nothing else yet may hold a value. */
export function waysLeft({ tensors, shapes }: MappingContext, placed: readonly Placement[], node: GraphNode): Way[] {
  return tensors.flatMap((tensor) => {
    if ((floatFormat(tensor.dtype) === undefined) !== (node.op.kind === "choose-experts")) return [];
    const taken = placed.filter((each) => each.tensor === tensor.name);
    if (taken.some(({ columns, index }) => columns === undefined && index === undefined)) return [];
    return shapes
      .waysOf(tensor, node)
      .filter((way) => taken.every((each) => isApart(each, way)))
      .map((placement) => ({ tensor, placement }));
  });
}

function isApart(a: Placement, b: Placement): boolean {
  if (a.index !== undefined && b.index !== undefined) return a.index !== b.index;
  if (!a.columns || !b.columns) return false;
  return a.columns[0] + a.columns[1] <= b.columns[0] || b.columns[0] + b.columns[1] <= a.columns[0];
}

/** The way whose bits are the value's; unsure where another tensor's would do as well. */
function byBits(node: GraphNode, ways: readonly Way[], search: ContentSearch): Placement | undefined {
  if (ways.length === 0) return undefined;
  const near = search.near(node, ways) ?? [];
  const [best, ...others] = search.confirmed(node, near);
  if (!best) return undefined;
  const rival = others.find(({ distance }) => distance !== best.distance);
  if (!rival)
    return { ...best.placement, evidence: `its bits follow from what was placed before it (${node.op.kind})` };
  return {
    ...best.placement,
    unsure: true,
    evidence: `its bits fit, and those of "${rival.tensor.name}" fit as well`,
  };
}

/** A name of a serving stack, after a look at the numbers. */
function checkedName(context: MappingContext, placement: Placement, node: GraphNode, search: ContentSearch): Placement {
  if (ownNames.has(placement.evidence) || search.follows(node.name)) return placement;
  const tensor = context.tensors.find(({ name }) => name === placement.tensor)!;
  const siblings = [...context.graph.nodes.values()].filter(
    (other) => other.layer === node.layer && other.columns === node.columns && other !== node && isPlaceable(other),
  );
  for (const other of siblings) {
    const near = search.near(other, [{ tensor, placement: { ...placement, value: other.name } }]);
    const [found]: Candidate[] = near ? search.confirmed(other, near) : [];
    if (found) return { ...placement, unsure: true, evidence: `its name says ${node.name}, its bits ${other.name}` };
  }
  return placement;
}
