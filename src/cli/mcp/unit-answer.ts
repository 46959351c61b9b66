import { compareBlock } from "../../diagnose/bits/statistics.js";
import { extentOf } from "../../diagnose/check/extent.js";
import type { UnitCheck } from "../../diagnose/check/investigation.js";
import type { JudgedRun } from "../../diagnose/reference/judged-run.js";
import { makeCase } from "../../repro/make-case.js";
import { caseRow } from "../../repro/reads.js";
import type { GraphNode } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import { InputError } from "../../tensor/errors.js";
import type { UnitAnswer } from "./unit-schema.js";

/** Rows and columns to show, both ends included. */
export interface Window {
  readonly rows?: readonly [number, number] | undefined;
  readonly columns?: readonly [number, number] | undefined;
}

/** Elements of one window. */
const mostOfWindow = 4096;
const mostNamed = 6;

type Block = Pick<UnitCheck["comparison"], "rows" | "columns" | "expected" | "observed" | "noise" | "z">;

/**
 * What a judged run has of one unit.
 * @param count elements to give where no window is asked for: those furthest off.
 * @throws InputError when it is no unit of the run, or the window has nothing recorded in it.
 */
export function unitAnswer(run: JudgedRun, name: string, window: Window, count: number): UnitAnswer {
  const { investigation, checks, verdict } = run;
  const check = checks.find(({ node }) => node.name === name);
  const causes = verdict.causes
    .filter(({ units }) => units.includes(name))
    .map(({ cause, kind, statement }) => ({ cause, kind, statement }));
  const fails = check !== undefined && check.excess > 1;
  if (!check || (!fails && causes.length > 0 && !window.rows && !window.columns)) {
    if (causes.length === 0) throw notThere(run, name);
    return handedOn(run, name, causes);
  }
  const { node, statistics, coverage } = check;
  const shown = window.rows || window.columns ? windowOf(run, node, window) : check.comparison;
  const elements = window.rows || window.columns ? elementsOf(shown) : worst(elementsOf(shown), count);
  return {
    unit: name,
    judged: statistics.checked === 0 ? "unchecked" : fails ? "wrong" : "right",
    statement: statementOf(fails, causes),
    causes,
    op: node.op.kind,
    layer: node.layer ?? null,
    inputs: inputsOf(run, node),
    dtype: investigation.observations.dtype(name) ?? null,
    rmsZ: brief(statistics.rmsZ, 4),
    maxZ: brief(statistics.maxZ, 4),
    checked: statistics.checked,
    coverage,
    recipe: recipeOf(check),
    extent: fails ? extentOf(check.comparison, node) : null,
    rows: rowsOf(run, elements),
    elements,
  };
}

function statementOf(fails: boolean, causes: readonly { cause: string; statement: string }[]): string {
  if (causes.length > 0) return causes.map(({ cause, statement }) => `${cause}: ${statement}`).join("; ");
  return fails
    ? "does not follow from its own inputs, and nothing in the catalogue explains it"
    : "follows from its own inputs to within rounding";
}

/** A value whose producer is right and whose reader saw something else, or which the host got wrong. */
function handedOn(run: JudgedRun, name: string, causes: UnitAnswer["causes"]): UnitAnswer {
  const made = makeCase(run, name);
  const { expected } = made.criterion;
  const width = made.columns.length;
  const elements = [...expected.keys()]
    .filter((i) => !Object.is(expected[i], made.observed[i]) && expected[i] !== made.observed[i])
    .map((i) => ({
      row: Math.floor(i / width),
      column: made.columns[i % width]!,
      expected: brief(expected[i]!, 9),
      observed: made.observed[i]!,
      noise: 0,
      z: null,
    }));
  return {
    unit: name,
    judged: "wrong",
    statement: made.statement,
    causes,
    op: made.ops[0]?.op ?? "read",
    layer: run.investigation.graph.find(name)?.layer ?? null,
    inputs: made.inputs.map((input) => input.name),
    dtype: made.dtype,
    rmsZ: null,
    maxZ: null,
    checked: expected.length,
    coverage: null,
    recipe: null,
    extent: run.verdict.causes.find(({ units }) => units.includes(name))?.extent ?? null,
    rows: made.rows.map((place, row) => ({ row, ...place })),
    elements,
  };
}

function inputsOf({ investigation }: JudgedRun, { name }: GraphNode): string[] {
  const interior = new Set(investigation.interior(name).map((node) => node.name));
  const read = investigation.interior(name).flatMap(({ inputs }) => inputs);
  return [...new Set(read)].filter((input) => !interior.has(input));
}

function recipeOf({ node, recipe, bits, matched }: UnitCheck): UnitAnswer["recipe"] {
  const own = recipe?.ops.get(roleOf(node)) ?? node.op.recipes?.[0];
  if (!own || !bits) return null;
  const { id, title, known } = own;
  return { id, title, known, matched, equal: bits.equal, compared: bits.compared };
}

function windowOf({ investigation }: JudgedRun, node: GraphNode, window: Window): Block {
  const { observations, evaluator, capture } = investigation;
  const within = (i: number, range: readonly [number, number] | undefined) =>
    !range || (i >= range[0] && i <= range[1]);
  const rows = Int32Array.from(observations.outputRows(node.name)).filter((row) => within(row, window.rows));
  const columns = Int32Array.from({ length: node.columns }, (_, i) => i).filter((i) => within(i, window.columns));
  const size = rows.length * columns.length;
  if (size === 0)
    throw new InputError(
      `${capture.path}: rows and columns: expected some that were recorded of ${node.name}, found none in the window`,
    );
  if (size > mostOfWindow)
    throw new InputError(
      `rows and columns: expected a window of at most ${mostOfWindow} elements, this one has ${size}`,
    );
  const observed = investigation.observed(node.name, rows, columns);
  const block = evaluator.evaluate(node.name, rows, columns);
  return compareBlock(block, observed, observations.dtype(node.name)!, rows, columns);
}

function elementsOf({ rows, columns, expected, observed, noise, z }: Block): UnitAnswer["elements"][number][] {
  return [...expected.keys()].map((i) => ({
    row: rows[Math.floor(i / columns.length)]!,
    column: columns[i % columns.length]!,
    expected: brief(expected[i]!, 9),
    observed: observed[i]!,
    noise: brief(noise[i]!, 4),
    z: brief(z[i]!, 4),
  }));
}

/** A number for reading. */
function brief(x: number, digits: number): number {
  return Number.isFinite(x) ? Number(x.toPrecision(digits)) : x;
}

/** Those furthest off; where z says nothing (NaN) they are as far off as can be. */
function worst(elements: UnitAnswer["elements"][number][], count: number): UnitAnswer["elements"][number][] {
  const distance = ({ z }: { readonly z: number | null }) => (Number.isNaN(z) ? Infinity : Math.abs(z ?? 0));
  return elements.sort((a, b) => distance(b) - distance(a) || a.row - b.row || a.column - b.column).slice(0, count);
}

function rowsOf({ investigation }: JudgedRun, elements: UnitAnswer["elements"]): UnitAnswer["rows"] {
  const rows = [...new Set(elements.map(({ row }) => row))].sort((a, b) => a - b);
  return rows.map((row) => ({ row, ...caseRow(investigation, row) }));
}

function notThere({ investigation, verdict, checks }: JudgedRun, name: string): InputError {
  const { capture, graph } = investigation;
  const accused = [...verdict.causes.flatMap(({ units }) => units), ...verdict.findings.map(({ unit }) => unit)];
  const near = accused.length > 0 ? accused : checks.map(({ node }) => node.name);
  const what = graph.find(name) ? "a value that was recorded" : "a value of the model";
  return new InputError(
    `${capture.path}: unit ${name}: expected ${what}, such as ${[...new Set(near)].slice(0, mostNamed).join(", ")}`,
  );
}
