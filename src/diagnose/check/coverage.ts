import { indices } from "../../spec/op.js";
import { withScratch } from "../../tensor/scratch.js";
import { type BitMatch, matchBits } from "../bits/bits.js";
import { addCounts } from "../bits/phase-counts.js";
import type { Investigation } from "./investigation.js";
import { residualSums } from "./product-sums.js";
import { type Suspicion, suspicionOf } from "./suspicion.js";
import type { UnitCheck } from "./unit-check.js";

/** Elements that are compared at a time. */
const blockElements = 2 ** 15;
/** Suspicious places of one unit that are looked at closely. */
const mostSuspects = 24;

/** Share of the rows that there is time to compare element by element, evenly spread; 1 for all. */
export interface Shares {
  readonly pointwise: number;
  readonly attention: number;
}

/**
 * Extends a unit's check from its sample to all its elements: products by sums over blocks of columns, everything else one
 * by one. A place that stands out joins the unit's sample, and the unit is judged once more with it.
 */
export function cover(investigation: Investigation, check: UnitCheck, shares: Shares): UnitCheck {
  const { node, coverage } = check;
  if (!check.matched || !check.recipe || coverage.compared >= coverage.of) return check;
  if (node.op.kind === "linear") return coverProduct(investigation, check);
  if (investigation.isPointwise(node.name)) return coverRows(investigation, check, shares.pointwise);
  if (node.op.kind === "all-reduce") return coverProduct(investigation, check);
  const alone = investigation.interior(node.name).every(({ op }) => op.kind !== "linear");
  return alone ? coverRows(investigation, check, shares.attention) : check;
}

function coverProduct(investigation: Investigation, check: UnitCheck): UnitCheck {
  const found = withScratch(() => {
    const sums = residualSums(investigation, check);
    return sums && { suspicion: suspicionOf(sums, check.node.columns) };
  });
  if (!found) return check;
  const summed = check.coverage.of;
  const covered = followed(investigation, check, found.suspicion);
  return covered.with({ coverage: { ...covered.coverage, summed } });
}

function coverRows(investigation: Investigation, check: UnitCheck, share: number): UnitCheck {
  const { bits, rows, columns } = compareRows(investigation, check, share);
  if (rows.size > 0) {
    const suspicion = { rows: Int32Array.from(rows).sort(), columns: Int32Array.from(columns).sort() };
    return followed(investigation, check, suspicion);
  }
  const { compared: checked, rmsZ, maxZ } = bits;
  const statistics = { ...check.statistics, checked, total: checked, rmsZ, maxZ };
  return check.with({ bits, statistics, coverage: { ...check.coverage, compared: checked } });
}

/** The unit judged once more with the places that were pointed at in its sample. */
function followed(investigation: Investigation, check: UnitCheck, suspicion: Suspicion | undefined): UnitCheck {
  if (!suspicion) return check;
  investigation.suspect(check.node.name, suspicion.rows, suspicion.columns);
  return investigation.check(check.node.name);
}

interface Compared {
  readonly bits: BitMatch;
  /** Where elements are beyond what the recipe can give. */
  readonly rows: ReadonlySet<number>;
  readonly columns: ReadonlySet<number>;
}

const nothing: BitMatch = { compared: 0, equal: 0, beyond: 0, surprise: 0, ulps: 0, worst: [], rmsZ: 0, maxZ: 0 };

function compareRows(investigation: Investigation, check: UnitCheck, share: number): Compared {
  const { node, recipe } = check;
  const { name } = node;
  const dtype = investigation.observations.dtype(name)!;
  const emulated = investigation.evaluator.under(recipe!, node, false);
  // Rows of which the sample has all columns are compared already.
  const sample = investigation.sample(name);
  const known = new Set(sample.columns.length === node.columns ? sample.rows : []);
  const phaseOf = (row: number) => investigation.observations.rows.phaseOf(row);
  const all = investigation.observations.outputRows(name).filter((row) => !known.has(row));
  const wanted = share >= 1 ? all : all.filter((_, i) => Math.floor((i + 1) * share) > Math.floor(i * share));
  const columns = indices(node.columns);
  const perBlock = Math.max(1, Math.floor(blockElements / node.columns));
  let bits = (known.size > 0 && check.bits) || nothing;
  const suspectRows = new Set<number>();
  const suspectColumns = new Set<number>();
  for (let first = 0; first < wanted.length; first += perBlock) {
    const rows = wanted.subarray(first, first + perBlock);
    const block = withScratch(() => {
      const observed = investigation.observed(name, rows, columns);
      const options = { limit: investigation.limit, phaseOf };
      return matchBits(emulated, name, { rows, columns }, observed, dtype, options);
    });
    for (const i of block.worst.slice(0, mostSuspects)) {
      if (suspectRows.size >= mostSuspects) break;
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
      phases: addCounts(bits.phases, block.phases),
      worst: [],
    };
  }
  return { bits, rows: suspectRows, columns: suspectColumns };
}
