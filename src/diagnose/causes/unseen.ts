import { coverageCauses } from "./coverage.js";
import { gainCauses } from "./fitted.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { relabellingCauses } from "./relabelling.js";
import { affine, relabelled, replaced, restricted } from "./transform.js";

const hypothesis = hypothesesOf({ ...coverageCauses, ...gainCauses, ...relabellingCauses });
const isUnseen = (proposal: Proposal) =>
  !isRecorded(proposal) && !proposal.investigation.observations.has(proposal.site.name);
const isUnseenProduct = (proposal: Proposal) => proposal.site.op.kind === "linear" && isUnseen(proposal);

/**
 * Of a value that nobody recorded, what a record would show by itself: the commonest parts that are not written, factors, and
 * rows that are one off.
 */
export const unseenSearches: readonly Search[] = [
  { causes: ["columns-unwritten"], stage: "named", appliesTo: isUnseenProduct, rewrites: unwritten },
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
