import type { GraphNode } from "../../spec/graph.js";
import { coverageCauses } from "./coverage.js";
import { gainCauses } from "./fitted.js";
import type { Hypothesis } from "./hypothesis.js";
import { freshName, hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { relabellingCauses } from "./relabelling.js";
import { affine, either, relabelled, replaced, restricted } from "./transform.js";

const hypothesis = hypothesesOf({ ...coverageCauses, ...gainCauses, ...relabellingCauses });
const isUnseen = (proposal: Proposal) =>
  !isRecorded(proposal) && !proposal.investigation.observations.has(proposal.site.name);
const isUnseenProduct = (proposal: Proposal) => proposal.site.op.kind === "linear" && isUnseen(proposal);

/** |z| from which an element of the record is wrong. */
const wrongFrom = 8;

/**
 * Of a value that nobody recorded, what a record would show by itself: the commonest parts that are not written, factors, and
 * rows that are one off.
 */
export const unseenSearches: readonly Search[] = [
  { causes: ["columns-unwritten"], stage: "named", appliesTo: isUnseenProduct, rewrites: unwritten },
  { causes: ["columns-unwritten"], stage: "named", appliesTo: isUnseenProduct, rewrites: unwrittenTails },
  { causes: ["rows-unwritten"], stage: "named", appliesTo: isUnseenProduct, rewrites: unwrittenRows },
  { causes: ["scaled"], stage: "named", appliesTo: isUnseenProduct, rewrites: scaled },
  {
    causes: ["rows-shifted"],
    stage: "named",
    appliesTo: (proposal) => ["attention", "linear"].includes(proposal.site.op.kind) && isUnseen(proposal),
    rewrites: rowsOff,
  },
];

/** Halves and quarters of the channels that hold zeros. */
function unwritten({ site }: Proposal): Hypothesis[] {
  const quarter = Math.floor(site.columns / 4);
  const parts = [
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 4],
    [0, 2],
    [1, 3],
    [2, 4],
  ] as const;
  const zero = affine(site.op, { constant: 0 }, () => 0);
  return parts.map(([from, to]) => {
    const [first, end] = [from * quarter, to === 4 ? site.columns : to * quarter];
    const inside = (_: number, column: number) => column >= first && column < end;
    return hypothesis(
      "columns-unwritten",
      site,
      [replaced(site, { op: restricted(site.op, zero, { first }, inside) })],
      {
        parameters: { columns: `${first} to ${end - 1}`, holds: 0 },
        statement: `columns ${first} to ${end - 1} hold zeros: a part of ${lastName(site.name)} is never written, or its weight there is zero`,
      },
    );
  });
}

/** Last columns that tiles and vectors may leave. */
const tails = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128];

/** The last columns, however many, that hold zeros or what the layer before left in the buffer. */
function unwrittenTails(proposal: Proposal): Hypothesis[] {
  const { site } = proposal;
  return tails
    .filter((tail) => 2 * tail < site.columns)
    .flatMap((tail) => {
      const first = site.columns - tail;
      const where = tail === 1 ? `column ${first}` : `columns ${first} to ${site.columns - 1}`;
      return leftOver(
        proposal,
        "columns-unwritten",
        where,
        { columns: `${first} to ${site.columns - 1}` },
        (_, column) => column >= first,
      );
    });
}

/** All rows of a step from the first one on that is wrong in the record. */
function unwrittenRows(proposal: Proposal): Hypothesis[] {
  const { finding, investigation } = proposal;
  const { steps, stepOf } = investigation.observations.rows;
  const { rows, columns, z } = finding.comparison;
  const width = columns.length;
  const wrong = rows.filter((_, r) => z.subarray(r * width, (r + 1) * width).some((x) => Math.abs(x) > wrongFrom));
  const firstOf = new Map<number, number>();
  for (const row of wrong) if (!firstOf.has(stepOf[row]!)) firstOf.set(stepOf[row]!, row);
  // Where a step is wrong from its first row on, more is amiss than its end.
  if (firstOf.size === 0 || [...firstOf].some(([step, row]) => row === steps[step]!.firstRow)) return [];
  const where = [...firstOf]
    .map(([step, row]) => `${row} to ${steps[step]!.firstRow + steps[step]!.rowCount - 1}`)
    .join(", ");
  const inside = (row: number) => row >= (firstOf.get(stepOf[row]!) ?? Number.POSITIVE_INFINITY);
  return leftOver(proposal, "rows-unwritten", `rows ${where}`, { rows: where }, inside);
}

/** A part of a product that holds zeros, or what the same product of the layer before left there. */
function leftOver(
  { site, investigation }: Proposal,
  cause: "columns-unwritten" | "rows-unwritten",
  where: string,
  parameters: Record<string, string>,
  inside: (row: number, column: number) => boolean,
): Hypothesis[] {
  const { graph } = investigation;
  const before = site.layer === undefined ? undefined : graph.inLayer(site, site.layer - 1);
  const told = (holds: string, replacements: GraphNode[]) =>
    hypothesis(cause, site, replacements, {
      // How many they are was read off the record.
      fitted: 1,
      parameters: { ...parameters, holds },
      statement: `${where} of ${lastName(site.name)} hold ${holds}: they are never written`,
      group: `${cause} ${holds}`,
    });
  const zero = restricted(
    site.op,
    affine(site.op, { constant: 0 }, () => 0),
    parameters,
    inside,
  );
  const out = [told("zeros", [replaced(site, { op: zero })])];
  if (!before) return out;
  const written: GraphNode = { ...site, name: freshName(graph, `${site.name}.written`) };
  const chosen = replaced(site, { op: either(site.op, inside), inputs: [written.name, before.name] });
  return [...out, told(`what ${before.name} left there`, [written, chosen])];
}

/** Powers of two, and what lies between the two ranges that e4m3 has. */
const factors = [0.0625, 0.125, 0.25, 0.5, 2, 4, 8, 16, 448 / 240, 240 / 448];

function scaled({ site }: Proposal): Hypothesis[] {
  return factors.map((factor) =>
    hypothesis("scaled", site, [replaced(site, { op: affine(site.op, { factor }, () => factor) })], {
      parameters: { factor: Number(factor.toPrecision(4)) },
      statement: `the value is multiplied by ${Number(factor.toPrecision(4))}: a scale is missed or applied twice`,
    }),
  );
}

/** Each row holds its neighbour's result, the one at the end the other end's. */
function rowsOff({ site, investigation }: Proposal): Hypothesis[] {
  const table = investigation.observations.rows;
  return [-1, 1].map((by) => {
    const op = relabelled(site.op, { rows: by }, (row, column) => {
      const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
      return [firstRow + ((row - firstRow + by + rowCount) % rowCount), column];
    });
    return hypothesis("rows-shifted", site, [replaced(site, { op })], {
      parameters: { rows: by },
      statement: `each row holds what belongs to the row ${by < 0 ? "before" : "after"} it`,
    });
  });
}
