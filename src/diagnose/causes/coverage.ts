import type { GraphNode } from "../../spec/graph.js";
import type { Comparison } from "../bits/statistics.js";
import { type Region, ranges, regionOf } from "../check/extent.js";
import type { Investigation } from "../check/investigation.js";
import { cacheCauses } from "./append.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { affine, relabelled, replaced, restricted, taken } from "./transform.js";

/** Parts of a value that nobody wrote: zeros, one constant, or what another value or another row left there. */
export const coverageCauses = {
  "columns-unwritten": {
    kind: "kernel",
    transform: "T14",
    legend: "A range of columns is never written, or its weight there is zero.",
    hiddenBy: "widths that are a multiple of the tile",
    confusedWith: ["tile-unwritten", "reduction-incomplete"],
    report: ["microsoft/onnxruntime#29593", "a guard compared with the tile's width: upper channels were raced for"],
  },
  "rows-unwritten": {
    kind: "kernel",
    transform: "T14",
    legend: "Rows are never written.",
    hiddenBy: "row counts that are a multiple of the tile",
    confusedWith: ["cache-unwritten", "rows-shifted"],
    report: ["ml-explore/mlx#3494", "one-token rotations launched a grid for one sequence of the batch"],
  },
  "tile-unwritten": {
    kind: "kernel",
    transform: "T14",
    legend: "A tile of rows and columns is never written.",
    hiddenBy: "shapes that are a multiple of the tile",
    confusedWith: ["columns-unwritten", "rows-unwritten"],
    report: ["ggml-org/llama.cpp#19965", "more groups were launched than a dispatch may have"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...coverageCauses, ...cacheCauses });
type CoverageCause = keyof typeof coverageCauses | "cache-unwritten" | "cache-stale";

export const coverageSearches: readonly Search[] = [
  {
    causes: ["columns-unwritten", "rows-unwritten", "tile-unwritten", "cache-unwritten", "cache-stale"],
    stage: "fitted",
    appliesTo: isRecorded,
    rewrites(proposal) {
      const { site, finding } = proposal;
      const regions = [regionOf(finding.comparison, site), constantRegion(finding.comparison)].filter(
        (region) => region !== undefined && !region.whole,
      );
      return regions.flatMap((region) => [
        ...constants(proposal, region!),
        ...leftovers(proposal, region!),
        ...neighbouringColumns(proposal, region!),
      ]);
    },
  },
];

/** Of a cache as of any other value: its record shows that the append did not write it. */
const unwritten = { kind: "kernel", transform: "T14" } as const;

/** |z| from which an element is wrong. */
const wrongFrom = 8;

/** The rows and columns of the wrong elements that hold zero, to the last one: a tile may be nearly all of the rows. */
function constantRegion({ observed, z, rows, columns }: Comparison): Region | undefined {
  const wrong = [...z.keys()].filter((i) => Math.abs(z[i]!) > wrongFrom && observed[i] === 0);
  if (wrong.length < 2) return undefined;
  const rowsIn = new Set(wrong.map((i) => rows[Math.floor(i / columns.length)]!));
  const columnsIn = wrong.map((i) => columns[i % columns.length]!);
  const [first, last] = [Math.min(...columnsIn), Math.max(...columnsIn)];
  const allRows = rowsIn.size === rows.length;
  const allColumns = first <= columns[0]! && last >= columns.at(-1)!;
  return {
    whole: allRows && allColumns,
    firstRow: Math.min(...rowsIn),
    ...(!allRows && { rows: ranges([...rowsIn]) }),
    ...(!allColumns && { columns: `${first} to ${last}` }),
    contains: (row, column) => rowsIn.has(row) && column >= first && column <= last,
  };
}

/** A range of columns that holds the columns beside it once more. */
function neighbouringColumns({ site, finding }: Proposal, region: Region): Hypothesis[] {
  const { columns, rows } = finding.comparison;
  const wrong = columns.filter((column) => rows.some((row) => region.contains(row, column)));
  if (!region.columns || wrong.length === 0) return [];
  const width = wrong.at(-1)! - wrong[0]! + 1;
  return [-width, width].flatMap((shift) => {
    const inside = (column: number) => column + shift >= 0 && column + shift < site.columns;
    if (![...wrong].every(inside)) return [];
    const op = relabelled(site.op, { shift }, (row, column) => [
      row,
      region.contains(row, column) ? column + shift : column,
    ]);
    return [
      hypothesis(causeOf(region, site), site, [replaced(site, { op })], {
        ...unwritten,
        parameters: { ...parametersOf(region), holds: `columns ${wrong[0]! + shift} to ${wrong.at(-1)! + shift}` },
        statement: `${describe(region)} hold what belongs ${width} columns ${shift < 0 ? "before" : "after"} them: a tile is written twice, its neighbour never`,
        group: `${causeOf(region, site)}`,
      }),
    ];
  });
}

function describe(region: Region): string {
  const parts = [
    region.rows && `rows ${region.rows}`,
    region.heads && `heads ${region.heads}`,
    !region.heads && region.columns && `columns ${region.columns}`,
  ];
  return parts.filter(Boolean).join(", ");
}

function causeOf(region: Region, site: GraphNode, stale = false): CoverageCause {
  if (site.op.kind === "append" && !region.columns) return stale ? "cache-stale" : "cache-unwritten";
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
    hypothesis(causeOf(region, site), site, [replaced(site, { op })], {
      ...unwritten,
      parameters: { ...parametersOf(region), holds: constant },
      // Where it is was read off the record.
      fitted: 1,
      statement: `${describe(region)} hold ${constant === 0 ? "zeros" : `the constant ${constant}`}: a part of ${lastName(site.name)} is never written, or its weight there is zero`,
      group: `${causeOf(region, site)}`,
    }),
  ];
}

/** Values of the same width that may have stood in the buffer before. */
function leftovers(proposal: Proposal, region: Region): Hypothesis[] {
  const { site, investigation } = proposal;
  const { graph, observations } = investigation;
  const order = [...graph.nodes.keys()];
  const own = order.indexOf(site.name);
  // A buffer of the same size that the layer before used: its value is known where that was not recorded as well.
  const before = site.layer === undefined ? undefined : graph.inLayer(site, site.layer - 1);
  const out: Hypothesis[] = [];
  const seen = new Set<string>();
  const tryValue = (name: string, rowOf: ((row: number) => number) | undefined, title: string) => {
    const holder = { ...site, name: `${site.name}.leftover`, op: site.op };
    const op = restrictedToInput(region, rowOf);
    out.push(
      hypothesis(
        causeOf(region, site, rowOf !== undefined),
        site,
        [holder, { ...site, op, inputs: [holder.name, name] }],
        {
          ...unwritten,
          parameters: { ...parametersOf(region), holds: title },
          statement: `${describe(region)} still hold ${title}: a part of ${lastName(site.name)} is not written`,
          group: `${causeOf(region, site, rowOf !== undefined)}`,
        },
      ),
    );
  };
  for (let i = own - 1; i >= 0 && out.length < 60; i--) {
    const node = graph.node(order[i]!);
    if (
      node.columns !== site.columns ||
      site.inputs.includes(node.name) ||
      !(observations.has(node.name) || node === before) ||
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
