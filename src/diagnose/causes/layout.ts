import type { Graph, GraphNode } from "../../spec/graph.js";
import { indices, type Op } from "../../spec/op.js";
import type { Placed } from "../../spec/site.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { forEachElement, relabelled, replaced } from "./transform.js";

/** Right numbers in wrong places. */
export const layoutCauses = {
  "strides-ignored": {
    kind: "seam",
    transform: "T2",
    legend: "A transposed, sliced or padded value is read as if it were contiguous, or the reverse.",
    hiddenBy: "one row",
    confusedWith: ["heads-permuted", "rows-shifted", "layout-mismatch"],
    report: ["vllm-project/vllm#17735", "a fused norm took slices of packed QKV for contiguous queries and keys"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(layoutCauses);

export const layoutSearches: readonly Search[] = [
  { causes: ["strides-ignored"], stage: "named", appliesTo: isRecorded, rewrites: axisOrders },
  {
    causes: ["strides-ignored"],
    stage: "named",
    appliesTo: (proposal) => {
      const { site, investigation } = proposal;
      if (!["query", "key", "value"].includes(site.site.what)) return false;
      return isRecorded(proposal) || !investigation.observations.has(site.name);
    },
    rewrites: packedStrides,
  },
];

/** Rows of the step a row belongs to, for layouts that mix rows. */
function stepBounds({ investigation }: Proposal): (row: number) => { first: number; count: number } {
  const table = investigation.observations.rows;
  return (row) => {
    const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
    return { first: firstRow, count: rowCount };
  };
}

export interface Misreading {
  readonly title: string;
  /** Undefined where nobody knows what lies there. */
  readonly source: (row: number, column: number) => readonly [number, number] | undefined;
}

/** Elements by which a row stride is wrong: padding to a multiple, or a head more. */
const rowPads = [8, 16, 32, 64, 128];

/** Rows that lie further apart than they are read, or nearer together. */
export function rowStrides(site: GraphNode, investigation: Proposal["investigation"]): Misreading[] {
  const table = investigation.observations.rows;
  const width = site.columns;
  const pads = new Set([...rowPads, ...(site.heads ? [width / site.heads] : [])]);
  return [...pads]
    .filter((pad) => pad < width)
    .flatMap((pad) => [
      {
        title: `rows are read ${pad} elements too far apart`,
        source: (row: number, column: number) => {
          const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
          const flat = (row - firstRow) * (width + pad) + column;
          const from = Math.floor(flat / width);
          return from < rowCount ? ([firstRow + from, flat % width] as const) : undefined;
        },
      },
      {
        title: `rows are read ${pad} elements too near together`,
        source: (row: number, column: number) => {
          const { firstRow } = table.steps[table.stepOf[row]!]!;
          const flat = (row - firstRow) * (width - pad) + column;
          return [firstRow + Math.floor(flat / width), flat % width] as const;
        },
      },
    ]);
}

/** A contiguous buffer of one axis order read in another: [token, head, channel] as [head, token, channel], transposes. */
export function misreadings(site: GraphNode, investigation: Proposal["investigation"]): Misreading[] {
  const heads = site.heads ?? 1;
  const width = site.columns / heads;
  const table = investigation.observations.rows;
  const bounds = (row: number) => table.steps[table.stepOf[row]!]!;
  const orders: [string, (t: number, h: number, d: number, tokens: number) => number][] = [];
  if (heads > 1) {
    orders.push(["head, token, channel", (t, h, d, tokens) => (h * tokens + t) * width + d]);
    orders.push(["token, channel, head", (t, h, d) => (t * width + d) * heads + h]);
  }
  orders.push(["channel, token", (t, h, d, tokens) => (h * width + d) * tokens + t]);
  return orders.flatMap(([order, address]) => [
    {
      title: `a buffer in the order token, head, channel is read as ${order}`,
      source: (row: number, column: number) => {
        const { firstRow, rowCount } = bounds(row);
        const flat = address(row - firstRow, Math.floor(column / width), column % width, rowCount);
        return [firstRow + Math.floor(flat / site.columns), flat % site.columns] as const;
      },
    },
    {
      title: `a buffer in the order ${order} is read as token, head, channel`,
      source: (row: number, column: number) => {
        const { firstRow, rowCount } = bounds(row);
        return invert(order, (row - firstRow) * site.columns + column, rowCount, heads, width, firstRow, site.columns);
      },
    },
  ]);
}

function axisOrders({ site, investigation }: Proposal): Hypothesis[] {
  return misreadings(site, investigation).map(({ title, source }) =>
    hypothesis("strides-ignored", site, [replaced(site, { op: relabelled(site.op, { order: title }, source) })], {
      parameters: { order: title },
      statement: `${title}: strides were ignored, or a transpose is missing or one too many`,
    }),
  );
}

function invert(
  order: string,
  flat: number,
  tokens: number,
  heads: number,
  width: number,
  first: number,
  columns: number,
): readonly [number, number] {
  if (order === "head, token, channel") {
    const h = Math.floor(flat / (tokens * width));
    const t = Math.floor(flat / width) % tokens;
    return [first + t, h * width + (flat % width)];
  }
  if (order === "token, channel, head") {
    const t = Math.floor(flat / columns);
    const d = Math.floor((flat % columns) / heads);
    return [first + t, (flat % heads) * width + d];
  }
  return [first + (flat % tokens), Math.floor(flat / tokens)];
}

/** Queries, keys and values of a layer as projections give them, in the order of a packed row; none where one is missing. */
export function packedParts(graph: Graph, { site }: Placed): GraphNode[] {
  const { layer, expert } = site;
  const parts = (["query", "key", "value"] as const).map((what) => graph.at({ what, layer, expert }));
  return parts.every((part) => part !== undefined) ? parts : [];
}

/** q, k or v as a slice of a packed [q | k | v] row, read with the slice's own width as row stride. */
function packedStrides(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const parts = packedParts(investigation.graph, site);
  if (!parts.some(({ name }) => name === site.name)) return [];
  const bounds = stepBounds(proposal);
  const packedWidth = parts.reduce((sum, part) => sum + part.columns, 0);
  const offset = parts
    .slice(
      0,
      parts.findIndex((part) => part.name === site.name),
    )
    .reduce((sum, part) => sum + part.columns, 0);
  const sources = parts.map((part) => part.op);
  const op: Op = {
    kind: "linear",
    attributes: { ...site.op.attributes, packedWidth },
    evaluate(context, rows, columns) {
      const out = {
        value: new Float64Array(rows.length * columns.length),
        variance: new Float64Array(rows.length * columns.length),
      };
      const flatOf = (row: number, column: number) => offset + (row - bounds(row).first) * site.columns + column;
      const asked = new Set<number>();
      forEachElement(rows, columns, (row, column) => {
        const from = Math.floor(flatOf(row, column) / packedWidth);
        if (from < bounds(row).count) asked.add(bounds(row).first + from);
      });
      const packed = Int32Array.from(asked).sort();
      const place = new Map(Array.from(packed, (row, r) => [row, r]));
      const blocks = parts.map(({ columns: width }, part) => sources[part]!.evaluate(context, packed, indices(width)));
      forEachElement(rows, columns, (row, column, i) => {
        const flat = flatOf(row, column);
        const r = place.get(bounds(row).first + Math.floor(flat / packedWidth));
        if (r === undefined) {
          out.variance[i] = Infinity;
          return;
        }
        let at = flat % packedWidth;
        let part = 0;
        while (at >= parts[part]!.columns) at -= parts[part++]!.columns;
        const from = r * parts[part]!.columns + at;
        out.value[i] = blocks[part]!.value[from]!;
        out.variance[i] = blocks[part]!.variance[from] ?? 0;
      });
      return out;
    },
  };
  return [
    hypothesis("strides-ignored", site, [replaced(site, { op })], {
      parameters: { order: "packed q|k|v rows" },
      statement: `${lastName(site.name)} is a slice of a packed q|k|v buffer, read as if it were contiguous: the row stride ${packedWidth} was ignored`,
    }),
  ];
}
