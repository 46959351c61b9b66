import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import { ranges } from "../check/extent.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { type DifferingReplica, differingReplicas } from "../check/rank-views.js";
import { keyHeadsOfOtherRanks } from "./key-heads.js";

/**
 * Ranks whose copy of a value does not follow from what they themselves held, while other ranks' does. Copies that differ
 * and all follow differ by rounding, or since what they were made from does.
 * @returns causes, and the failing units that are one rank's copy alone.
 */
export function differingRanks(
  investigation: Investigation,
  failing: readonly UnitCheck[],
): { causes: DirectCause[]; settled: ReadonlySet<string> } {
  const wrong = new Map(failing.map((check) => [check.node.name, check]));
  const causes: DirectCause[] = [];
  const settled = new Set<string>();
  const byName = grouped(differingReplicas(investigation));
  for (const [name, replicas] of byName) {
    const astray = replicas.filter(({ rank }) => investigation.seenBy(rank).check(name).excess > 1);
    // The copies that stand for all may happen to be the right ones.
    const heads = wrong.has(name) || astray.length > 0 ? keyHeadsOfOtherRanks(investigation, name) : undefined;
    if (heads) {
      causes.push(heads);
      settled.add(name);
      continue;
    }
    if (!wrong.has(name)) for (const replica of astray) causes.push(cause(investigation, replica, replica.rank));
    else if (astray.length < replicas.length) {
      const right = replicas.find((replica) => !astray.includes(replica))!;
      causes.push(cause(investigation, right, right.from));
      settled.add(name);
    }
  }
  return { causes, settled };
}

function cause(investigation: Investigation, replica: DifferingReplica, rank: number): DirectCause {
  const { name, rows, firstColumn, columns, stepIndex } = replica;
  const node = investigation.graph.node(name);
  const others = rank === replica.rank ? replica.from : replica.rank;
  const part = columns < node.columns ? `columns ${firstColumn} to ${firstColumn + columns - 1} of ` : "";
  return {
    ...classed("replica-differs"),
    unit: name,
    step: investigation.capture.steps[stepIndex]!.step,
    layer: node.layer,
    parameters: { rank, other: others },
    statement: `rank ${rank} holds other numbers in ${part}${name} than rank ${others}, and they do not follow from what it computed them from: a parameter or a kernel of its own`,
    group: `replica-differs ${rank}`,
    samples: rows.length * columns,
    rows: ranges(rows),
  };
}

function grouped(replicas: readonly DifferingReplica[]): Map<string, DifferingReplica[]> {
  const byName = new Map<string, DifferingReplica[]>();
  for (const replica of replicas) byName.set(replica.name, [...(byName.get(replica.name) ?? []), replica]);
  return byName;
}
