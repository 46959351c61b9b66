import type { Replica } from "../../capture/replicas.js";
import type { GraphNode } from "../../spec/graph.js";
import { stretchOf } from "../../spec/ranks.js";
import type { Investigation } from "./investigation.js";
import type { UnitCheck } from "./unit-check.js";

/** A value of which a rank holds other bits than the rank that stands for all. */
export interface DifferingReplica {
  readonly name: string;
  readonly rank: number;
  /** The rank it differs from. */
  readonly from: number;
  readonly stepIndex: number;
  /** Rows of which it holds other bits, and the columns of its part. */
  readonly rows: readonly number[];
  readonly firstColumn: number;
  readonly columns: number;
}

const known = new WeakMap<Investigation, readonly DifferingReplica[]>();

/** What ranks that should hold the same hold differently, bit for bit. */
export function differingReplicas(investigation: Investigation): readonly DifferingReplica[] {
  let found = known.get(investigation);
  if (!found) {
    found = investigation.observations.replicas.flatMap((replica) => differences(investigation, replica) ?? []);
    known.set(investigation, found);
  }
  return found;
}

function differences({ observations }: Investigation, replica: Replica): DifferingReplica | undefined {
  const { node, of, other, firstColumn, columns } = replica;
  const rows = [...of.rows].filter((row) => {
    const [a, b] = [of, other].map((placed) => observations.partRow(placed, row, columns));
    return a && b && !a.every((x, i) => Object.is(x, b[i]) || x === b[i]);
  });
  if (rows.length === 0) return undefined;
  const place = { stepIndex: of.stepIndex, rows, firstColumn, columns };
  return { name: node.name, rank: other.record.rank!, from: of.record.rank!, ...place };
}

/**
 * Checks of units that seem to fail since ranks read different copies of one value, judged once more: every rank's part
 * from what that rank itself held.
 */
export function judgedByRank(investigation: Investigation, checks: readonly UnitCheck[]): readonly UnitCheck[] {
  const differing = new Set(differingReplicas(investigation).map(({ name }) => name));
  if (differing.size === 0) return checks;
  return checks.map((check) => {
    if (check.excess <= 1) return check;
    const { name } = check.node;
    const reads = investigation.interior(name).some(({ inputs }) => inputs.some((input) => differing.has(input)));
    return (reads && partByPart(investigation, check)) || check;
  });
}

/** The check of a unit whose parts all follow from their own ranks' inputs; undefined when one does not. */
function partByPart(investigation: Investigation, check: UnitCheck): UnitCheck | undefined {
  const { node } = check;
  const { name } = node;
  const sample = investigation.sample(name);
  const recipes = new Set([...(check.recipe ? [check.recipe] : []), ...investigation.recipesFor(name)]);
  for (const parts of waysToPart(investigation, node)) {
    for (const recipe of recipes) {
      const judged = parts.map(({ rank, made }) => {
        const seen = investigation.seenBy(rank);
        const own = (r: number, c: number) => made(sample.rows[r]!, sample.columns[c]!);
        return seen.checkUnder(name, recipe, seen.evaluator, sample, own);
      });
      if (!judged.every(({ matched }) => matched)) continue;
      const excess = Math.max(...judged.map((part) => part.excess));
      return check.with({ recipe, matched: true, excess, bits: judged[0]!.bits });
    }
  }
  return undefined;
}

/** What of a value one rank made. */
interface OwnPart {
  readonly rank: number;
  made(row: number, column: number): boolean;
}

/** Who may have made which part of a value: as it was recorded, or gathered from equal parts of all ranks. */
function waysToPart({ observations, capture }: Investigation, { name, columns }: GraphNode): OwnPart[][] {
  const records = observations.denseRecords(name).filter((placed) => placed.record.role === "output");
  const [record] = records;
  if (!record) return [];
  const between = (first: number, end: number) => (_: number, column: number) => column >= first && column < end;
  if (record.record.shard?.axis === "t") {
    const parts = records.flatMap((placed) => placed.parts ?? []);
    const ranks = new Set(parts.map(({ placed }) => placed.record.rank!));
    const made = (rank: number) => (row: number) =>
      parts.some(({ placed }) => placed.record.rank === rank && placed.recordRow(row) >= 0);
    return [[...ranks].map((rank) => ({ rank, made: made(rank) }))];
  }
  if (record.parts) {
    const ends = [...record.parts.slice(1).map(({ first }) => first), columns];
    return [
      record.parts.map(({ placed, first }, i) => ({ rank: placed.record.rank!, made: between(first, ends[i]!) })),
    ];
  }
  const { world } = capture.ranks!;
  const gathered = Array.from({ length: world }, (_, rank) => {
    const { first, count } = stretchOf(columns, rank, world);
    return { rank, made: between(first, first + count) };
  });
  return [[{ rank: record.record.rank!, made: () => true }], gathered];
}
