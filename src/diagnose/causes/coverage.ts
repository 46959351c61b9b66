import { type Region, regionOf } from "../extent.js";
import type { Hypothesis } from "../hypothesis.js";
import type { Investigation } from "../investigation.js";
import { affine, replaced, restricted, taken } from "../transform.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";

/** A part of the output nobody wrote: zeros, one constant, or what another value or another row left there. */
export const coverageCauses: CauseFamily = (proposal) => {
  const { site, finding } = proposal;
  if (site.name !== finding.node.name) return [];
  const region = regionOf(finding.comparison, site);
  if (!region || region.whole) return [];
  return [...constants(proposal, region), ...leftovers(proposal, region)];
};

function describe(region: Region): string {
  const parts = [
    region.rows && `rows ${region.rows}`,
    region.heads && `heads ${region.heads}`,
    !region.heads && region.columns && `columns ${region.columns}`,
  ];
  return parts.filter(Boolean).join(", ");
}

function causeOf(region: Region): string {
  return region.columns ? (region.rows ? "tile-unwritten" : "columns-unwritten") : "rows-unwritten";
}

function parametersOf(region: Region): Record<string, string> {
  return {
    ...(region.rows && { rows: region.rows }),
    ...(region.heads && { heads: region.heads }),
    ...(region.columns && { columns: region.columns }),
  };
}

function constants({ site, finding }: Proposal, region: Region): Hypothesis[] {
  const { observed, rows, columns } = finding.comparison;
  const inside: number[] = [];
  rows.forEach((row, r) => {
    columns.forEach((column, c) => {
      if (region.contains(row, column)) inside.push(observed[r * columns.length + c]!);
    });
  });
  const constant = inside[0]!;
  if (!inside.every((x) => Object.is(x, constant) || x === constant) || !Number.isFinite(constant) || inside.length < 2)
    return [];
  const op = restricted(
    site.op,
    affine(
      site.op,
      { constant },
      () => 0,
      () => constant,
    ),
    parametersOf(region),
    region.contains,
  );
  return [
    hypothesis(causeOf(region), site, [replaced(site, { op })], {
      kind: "kernel",
      transform: "T14",
      parameters: { ...parametersOf(region), holds: constant },
      statement: `${describe(region)} hold ${constant === 0 ? "zeros" : `the constant ${constant}`}: a part of ${lastName(site.name)} is never written, or its weight there is zero`,
      group: `${causeOf(region)}`,
    }),
  ];
}

/** Values of the same width that may have stood in the buffer before. */
function leftovers(proposal: Proposal, region: Region): Hypothesis[] {
  const { site, investigation } = proposal;
  const { graph, observations } = investigation;
  const order = [...graph.nodes.keys()];
  const own = order.indexOf(site.name);
  const out: Hypothesis[] = [];
  const seen = new Set<string>();
  const tryValue = (name: string, rowOf: ((row: number) => number) | undefined, title: string) => {
    const holder = { ...site, name: `${site.name}.leftover`, op: site.op };
    const op = restrictedToInput(region, rowOf);
    out.push(
      hypothesis(causeOf(region), site, [holder, { ...site, op, inputs: [holder.name, name] }], {
        kind: "kernel",
        transform: "T14",
        parameters: { ...parametersOf(region), holds: title },
        statement: `${describe(region)} still hold ${title}: a part of ${lastName(site.name)} is not written`,
        group: `${causeOf(region)}`,
      }),
    );
  };
  for (let i = own - 1; i >= 0 && out.length < 60; i--) {
    const node = graph.node(order[i]!);
    if (
      node.columns !== site.columns ||
      site.inputs.includes(node.name) ||
      !observations.has(node.name) ||
      seen.has(node.name) ||
      node.op.kind === "identity"
    )
      continue;
    seen.add(node.name);
    tryValue(node.name, undefined, node.name);
  }
  if (region.rows && !region.columns) {
    for (const [title, rowOf] of neighbours(investigation, region)) tryValue(`${site.name}.leftover`, rowOf, title);
  }
  return out;
}

function neighbours({ observations }: Investigation, region: Region): [string, (row: number) => number][] {
  const table = observations.rows;
  const first = region.firstRow;
  return [
    ["the value of the last row before them", (row) => (row >= first ? Math.max(0, first - 1) : row)],
    [
      "the values of the step's first rows",
      (row) => (row >= first ? table.steps[table.stepOf[row]!]!.firstRow + (row - first) : row),
    ],
  ];
}

function restrictedToInput(region: Region, rowOf: ((row: number) => number) | undefined) {
  const own = taken({});
  const other = taken({}, undefined, rowOf);
  return restricted(
    own,
    {
      ...other,
      evaluate: (context, rows, columns) =>
        other.evaluate({ ...context, input: (_: number, r, c, at) => context.input(1, r, c, at) }, rows, columns),
    },
    {},
    region.contains,
  );
}
