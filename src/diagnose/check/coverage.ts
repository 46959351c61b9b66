import { indices } from "../../spec/op.js";
import type { Investigation } from "../investigation.js";
import { type BitMatch, matchBits } from "./bits.js";
import type { UnitCheck } from "./unit-check.js";

/** Elements that are compared at a time. */
const blockElements = 2 ** 17;
/** Suspicious places of one unit that are looked at closely. */
const followed = 24;

/**
 * Extends a unit's check from its sample to all its elements, where an element costs little. A place that stands out
 * joins the unit's sample, and the unit is judged once more with it.
 * @param share of the unit's rows that there is time for, evenly spread; 1 for all.
 */
export function cover(investigation: Investigation, check: UnitCheck, share: number): UnitCheck {
  const { name } = check.node;
  if (!check.matched || !check.recipe || !investigation.isPointwise(name)) return check;
  if (check.coverage.compared >= check.coverage.of) return check;
  const { bits, rows, columns } = compareRows(investigation, check, share);
  if (rows.size === 0) {
    const statistics = {
      ...check.statistics,
      checked: bits.compared,
      total: bits.compared,
      rmsZ: bits.rmsZ,
      maxZ: bits.maxZ,
    };
    return check.with({ bits, statistics, coverage: { ...check.coverage, compared: bits.compared } });
  }
  investigation.suspect(name, Int32Array.from(rows).sort(), Int32Array.from(columns).sort());
  return investigation.check(name);
}

interface Compared {
  readonly bits: BitMatch;
  /** Where elements are beyond what the recipe can give. */
  readonly rows: ReadonlySet<number>;
  readonly columns: ReadonlySet<number>;
}

function compareRows(investigation: Investigation, { node, recipe }: UnitCheck, share: number): Compared {
  const { name } = node;
  const dtype = investigation.observations.dtype(name)!;
  const emulated = investigation.evaluator.under(recipe!, node, false);
  const all = investigation.observations.outputRows(name);
  const wanted = share >= 1 ? all : all.filter((_, i) => Math.floor((i + 1) * share) > Math.floor(i * share));
  const columns = indices(node.columns);
  const perBlock = Math.max(1, Math.floor(blockElements / node.columns));
  let bits: BitMatch = { compared: 0, equal: 0, beyond: 0, surprise: 0, ulps: 0, worst: [], rmsZ: 0, maxZ: 0 };
  const suspectRows = new Set<number>();
  const suspectColumns = new Set<number>();
  for (let first = 0; first < wanted.length; first += perBlock) {
    const rows = wanted.subarray(first, first + perBlock);
    const observed = investigation.observed(name, rows, columns);
    const block = matchBits(emulated, name, { rows, columns }, observed, dtype, investigation.limit);
    for (const i of block.worst.slice(0, followed)) {
      if (suspectRows.size >= followed) break;
      suspectRows.add(rows[Math.floor(i / columns.length)]!);
      suspectColumns.add(columns[i % columns.length]!);
    }
    const compared = bits.compared + block.compared;
    const squares = bits.rmsZ ** 2 * bits.compared + block.rmsZ ** 2 * block.compared;
    bits = {
      compared,
      equal: bits.equal + block.equal,
      beyond: bits.beyond + block.beyond,
      surprise: Math.max(bits.surprise, block.surprise),
      ulps: Math.max(bits.ulps, block.ulps),
      rmsZ: compared > 0 ? Math.sqrt(squares / compared) : 0,
      maxZ: Math.max(bits.maxZ, block.maxZ),
      worst: [],
    };
  }
  return { bits, rows: suspectRows, columns: suspectColumns };
}
