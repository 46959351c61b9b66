import type { Graph, GraphNode } from "../../spec/graph.js";
import { elementCauses } from "./element.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, lastName, type Proposal, type Search } from "./proposal.js";
import { affine, replaced, restricted } from "./transform.js";

/** |z| from which an element of the record is wrong. */
const wrongFrom = 8;
/** Channels that are followed up: those whose change points where the record's error does. */
const followed = 4;
/** Multiply-adds that one value may cost: each of its channels asks for a row of the span once. */
const mostCost = 3e8;
const passes = 6;
/** What a channel is changed by to see where its change points, relative to the value's size. */
const bump = 1 / 64;
/** Share of the error, its direction and size, that one element must account for. */
const explained = 0.9;

const hypothesis = hypothesesOf(elementCauses);

/** One wrong element of a product that nobody recorded, where the record behind it is wrong in one row. */
export const unseenElementSearches: readonly Search[] = [
  {
    causes: ["element-wrong"],
    stage: "fitted",
    appliesTo: ({ site, investigation, finding }) =>
      site.op.kind === "linear" &&
      !investigation.observations.has(site.name) &&
      !investigation.hasBits(finding.node.name) &&
      site.columns * perRow(investigation.interior(finding.node.name), investigation.graph) < mostCost &&
      wrongRow({ site, investigation, finding }) !== undefined,
    rewrites: strayElements,
  },
];

/** Multiply-adds of a row of a span. */
function perRow(interior: readonly GraphNode[], graph: Graph): number {
  const products = interior.filter(({ op }) => op.kind === "linear");
  return products.reduce((sum, { columns, inputs }) => sum + columns * graph.node(inputs[0]!).columns, 0);
}

/** The first row of the record that is wrong, where those before it are right; undefined where that is the first of all. */
function wrongRow({ finding }: Proposal): number | undefined {
  const { rows, columns, z } = finding.comparison;
  const width = columns.length;
  const first = rows.findIndex((_, r) => z.subarray(r * width, (r + 1) * width).some((x) => Math.abs(x) > wrongFrom));
  return first > 0 ? first : undefined;
}

function strayElements(proposal: Proposal): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  const { rows, columns, observed } = finding.comparison;
  const width = columns.length;
  const r = wrongRow(proposal)!;
  const row = rows[r]!;
  const one = Int32Array.of(row);
  const { quiet } = investigation;
  const meant = quiet.read(site.name, one, finding.node.name).value;
  const size = Math.sqrt(meant.reduce((sum, x) => sum + x * x, 0) / meant.length);
  // Every other column says which element and how much, the rest judges.
  const even = columns.filter((_, c) => c % 2 === 0);
  const record = Float64Array.from(even, (_, c) => observed[r * width + 2 * c]!);
  const at = (column: number, value: number) =>
    quiet.rewritten(holding(site, row, column, value)).evaluate(finding.node.name, one, even).value;
  const base = quiet.evaluate(finding.node.name, one, even).value;
  const error = record.map((x, i) => x - base[i]!);
  if (!error.every(Number.isFinite) || !(size > 0)) return [];
  const candidates = Array.from(meant, (value, column) => {
    const moved = at(column, value + bump * size).map((x, i) => x - base[i]!);
    const cosine = dot(moved, error) / Math.sqrt(dot(moved, moved) * dot(error, error));
    return { column, cosine: Number.isFinite(cosine) ? Math.abs(cosine) : 0 };
  })
    .sort((a, b) => b.cosine - a.cosine)
    .slice(0, followed);
  return candidates.flatMap(({ column }) => {
    const held = solved((value) => at(column, value), record, meant[column]!, bump * size);
    if (held === undefined || held.left > (1 - explained) * Math.sqrt(dot(error, error))) return [];
    return [
      hypothesis("element-wrong", site, holding(site, row, column, held.value), {
        fitted: 1,
        heldOut: (_, c) => c % 2 === 1,
        parameters: {
          row,
          column,
          holds: Number(held.value.toPrecision(4)),
          expected: Number(meant[column]!.toPrecision(4)),
        },
        statement: `a single element is wrong, row ${row}, column ${column} of ${lastName(site.name)} (about ${short(held.value)}, not ${short(meant[column]!)}), and everything around is right: a stray write, a race or a flipped bit`,
        group: "element-wrong",
      }),
    ];
  });
}

/** The product with another number at one place. */
function holding(site: GraphNode, row: number, column: number, value: number): GraphNode[] {
  const stray = affine(
    site.op,
    { stray: 1 },
    () => 0,
    () => value,
  );
  const op = restricted(site.op, stray, { row, column }, (r, c) => r === row && c === column);
  return [replaced(site, { op })];
}

/** The number that brings values nearest to a record, by Gauss and Newton, with what it leaves. */
function solved(
  at: (value: number) => Float64Array,
  record: Float64Array,
  start: number,
  step: number,
): { value: number; left: number } | undefined {
  let value = start;
  for (let pass = 0; pass < passes; pass++) {
    const here = at(value);
    const moved = at(value + step);
    const slope = moved.map((x, i) => (x - here[i]!) / step);
    const move =
      dot(
        slope,
        record.map((x, i) => x - here[i]!),
      ) / dot(slope, slope);
    if (!Number.isFinite(move)) return undefined;
    value += move;
  }
  const off = at(value).map((x, i) => record[i]! - x);
  return { value, left: Math.sqrt(dot(off, off)) };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
