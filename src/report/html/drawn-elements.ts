import type { Sample } from "../../diagnose/bits/sample.js";
import { areAll } from "../../spec/op.js";
import { type DType, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { base64, cellsOf, shown } from "./cells.js";
import type { UnitElements } from "./page-data.js";
import { binCount, ulpBin } from "./ulp-bins.js";

/** Elements of one value, [rows, columns]. */
interface Numbers {
  /** What is meant, as it is stored. */
  readonly expected: Float64Array;
  readonly observed: Float64Array;
  /** What the spec with the causes in it makes of them. */
  readonly explained?: Float64Array | undefined;
  readonly reference?: Float64Array | undefined;
}

/** Numbers of a value as a map shows them: fewer where they are many, with their differences in ulps of `dtype`. */
export function drawnElements(sample: Sample, { expected, observed, explained, reference }: Numbers, dtype: DType) {
  const { rows, columns } = sample;
  const ulps = distances(expected, observed, dtype);
  const left = explained && distances(explained, observed, dtype);
  const cells = cellsOf(sample, ulps);
  return {
    rows: [...rows],
    columns: areAll(columns, columns.length) ? { first: 0, count: columns.length } : [...columns],
    down: cells.down,
    across: cells.across,
    at: cells.whole ? null : base64(cells.at),
    expected: shown(cells, expected),
    observed: shown(cells, observed),
    ulps: shown(cells, ulps),
    left: left ? shown(cells, left) : null,
    reference: reference ? shown(cells, reference) : null,
    histogram: histogramOf(ulps),
    leftHistogram: left ? histogramOf(left) : null,
  } satisfies Partial<UnitElements>;
}

/** Further than this in ulps is further than anyone counts: what is meant is 0, and any number is. */
const farthest = 1e30;

/** (observed − expected) in units of the type's last place; infinite or NaN where only one side is a number. */
function distances(expected: Float64Array, observed: Float64Array, dtype: DType): Float64Array {
  const format = floatFormat(dtype)!;
  return expected.map((meant, i) => {
    const seen = observed[i]!;
    if (Object.is(meant, seen) || meant === seen) return 0;
    if (Number.isFinite(meant) && Number.isFinite(seen))
      return Math.max(-farthest, Math.min(farthest, (seen - meant) / unitInLastPlace(meant, format)));
    return Number.NaN;
  });
}

function histogramOf(ulps: Float64Array): number[] {
  const counts = new Array<number>(binCount).fill(0);
  for (const distance of ulps) counts[ulpBin(distance)]!++;
  return counts;
}
