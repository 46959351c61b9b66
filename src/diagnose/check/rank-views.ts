import type { Replica } from "../../capture/replicas.js";
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
  const { name } = check.node;
  const { columns } = investigation.sample(name);
  const parts = investigation.observations
    .denseRecords(name)
    .filter(({ record }) => record.role === "output")
    .flatMap((placed) => placed.parts ?? [{ placed, first: 0 }]);
  const ends = (first: number) => Math.min(check.node.columns, ...parts.map((p) => p.first).filter((f) => f > first));
  const recipes = new Set([...(check.recipe ? [check.recipe] : []), ...investigation.recipesFor(name)]);
  for (const recipe of recipes) {
    const judged = parts.map(({ placed, first }) => {
      const seen = investigation.seenBy(placed.record.rank!);
      const own = (_: number, c: number) => columns[c]! >= first && columns[c]! < ends(first);
      return seen.checkUnder(name, recipe, seen.evaluator, investigation.sample(name), own);
    });
    if (judged.every(({ matched }) => matched)) {
      const excess = Math.max(...judged.map((part) => part.excess));
      return check.with({ recipe, matched: true, excess, bits: judged[0]!.bits });
    }
  }
  return undefined;
}
