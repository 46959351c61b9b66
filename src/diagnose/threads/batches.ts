import type { GraphNode } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import type { Investigation } from "../check/investigation.js";

/** Multiply-adds of attention's recorded rows. */
export function attentionCost({ graph, observations }: Investigation, name: string): number {
  let keys = 0;
  for (const row of observations.outputRows(name)) keys += observations.rows.keyCount(row);
  return 2 * keys * graph.node(name).columns;
}

/** Units in batches of about the same cost, neighbours together since they share their inputs; the dearest first. */
export function batchesOf(
  units: readonly GraphNode[],
  costs: ReadonlyMap<string, number>,
  target: number,
): (readonly string[])[] {
  const batches: { names: string[]; cost: number }[] = [];
  for (const { name } of units) {
    const cost = costs.get(name)!;
    const last = batches.at(-1);
    if (last && last.cost + cost <= target) {
      last.names.push(name);
      last.cost += cost;
    } else batches.push({ names: [name], cost });
  }
  return batches.sort((a, b) => b.cost - a.cost).map(({ names }) => names);
}

/**
 * A unit of every role that several of them have, for settling its recipe before they are checked. Those of one kind of op
 * stay together, since a search starts from what others of its kind were found to round like; the most first.
 */
export function rolesOf(investigation: Investigation, units: readonly GraphNode[]): (readonly string[])[] {
  const counts = new Map<string, number>();
  for (const unit of units) counts.set(roleOf(unit), (counts.get(roleOf(unit)) ?? 0) + 1);
  const byKind = new Map<string, string[]>();
  for (const unit of units) {
    const shared = counts.get(roleOf(unit))! > 1 && investigation.hasBits(unit.name);
    counts.delete(roleOf(unit));
    if (shared) byKind.set(unit.op.kind, [...(byKind.get(unit.op.kind) ?? []), unit.name]);
  }
  return [...byKind.values()].sort((a, b) => b.length - a.length);
}

/** Nanoseconds that checking each unit takes, roughly: for sharing out work and telling how far it is. */
export function costsOf(investigation: Investigation): Map<string, number> {
  return new Map(investigation.units().map(({ name }) => [name, costOf(investigation, name)]));
}

function costOf(investigation: Investigation, name: string): number {
  const { op, inputs, columns } = investigation.graph.node(name);
  const elements = investigation.elementsOf(name);
  const { rows, columns: sampled } = investigation.sample(name);
  if (op.kind === "linear") {
    const width = investigation.graph.node(inputs[0]!).columns;
    return 3 * elements + 2 * columns * width + 2 * rows.length * sampled.length * width;
  }
  if (op.kind === "attention") {
    return 2 * attentionCost(investigation, name);
  }
  return 60 * elements * investigation.interior(name).length;
}
