import type { Sample } from "../diagnose/bits/sample.js";
import type { Investigation, UnitCheck } from "../diagnose/check/investigation.js";
import { indices } from "../spec/op.js";

/** Rows and columns of a unit that are worth a test: some of the wrong ones, and a few right ones beside them. */
const mostRows = 8;
const rightRows = 2;
const mostColumns = 64;
const rightColumns = 16;
/** Units of so few elements of a weight are taken with all their columns. */
const smallWeight = 2 ** 18;
const mostWholeColumns = 2 ** 14;
/** Beyond so many sigma an element counts as wrong here; what is tested is decided by the limits of the whole recording. */
const wrongFrom = 6;

/** The elements of a failing unit that its test looks at, all of them recorded. */
export function chosenElements(investigation: Investigation, check: UnitCheck): Sample {
  const { rows, columns, z } = check.comparison;
  const { node } = check;
  const wrongRows = new Set<number>();
  const wrongColumns = new Set<number>();
  z.forEach((x, i) => {
    if (!(Math.abs(x) > wrongFrom)) return;
    wrongRows.add(rows[Math.floor(i / columns.length)]!);
    wrongColumns.add(columns[i % columns.length]!);
  });
  return {
    rows: some(investigation, rows, wrongRows),
    columns: allColumns(investigation, check) ? indices(node.columns) : ordered(columns, wrongColumns),
  };
}

/** Norms, rotations and attention need whole rows; of products each column stands by itself. */
function allColumns(investigation: Investigation, { node }: UnitCheck): boolean {
  const products = investigation.interior(node.name).filter(({ op }) => /linear/.test(op.kind));
  const widths = products.map(({ columns, inputs }) => columns * investigation.graph.node(inputs[0]!).columns);
  return node.columns <= mostWholeColumns && widths.reduce((sum, n) => sum + n, 0) <= smallWeight;
}

/** Wrong rows with the fewest keys first: attention over a long context is as wrong as over a short one, and smaller. */
function some({ observations }: Investigation, rows: Int32Array, wrong: ReadonlySet<number>): Int32Array {
  const byKeys = (a: number, b: number) => observations.rows.keyCount(a) - observations.rows.keyCount(b) || a - b;
  const bad = [...rows].filter((row) => wrong.has(row)).sort(byKeys);
  const good = [...rows].filter((row) => !wrong.has(row)).sort(byKeys);
  const first = bad.slice(0, mostRows - Math.min(rightRows, good.length));
  return Int32Array.from([...first, ...good.slice(0, mostRows - first.length)]).sort();
}

function ordered(columns: Int32Array, wrong: ReadonlySet<number>): Int32Array {
  const bad = [...columns].filter((column) => wrong.has(column));
  const good = [...columns].filter((column) => !wrong.has(column));
  const first = bad.slice(0, mostColumns - Math.min(rightColumns, good.length));
  return Int32Array.from([...first, ...good.slice(0, mostColumns - first.length)]).sort();
}
