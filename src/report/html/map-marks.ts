import type { Sample } from "../../diagnose/bits/sample.js";
import { regionOf } from "../../diagnose/check/extent.js";
import type { Investigation, UnitCheck } from "../../diagnose/check/investigation.js";
import type { GraphNode } from "../../spec/graph.js";
import type { Rectangle } from "./page-data.js";

/** What is drawn over a map: where the unit is wrong, heads, pages, tiles. */
export function marksOf(investigation: Investigation, check: UnitCheck, sample: Sample) {
  const rectangles = check.excess > 1 ? rectanglesOf(investigation, check, sample) : [];
  return { rectangles, ...edgesOf(investigation, check.node, rectangles, sample) };
}

/** Where heads, pages and tiles of a value begin. */
export function edgesOf(
  investigation: Investigation,
  node: GraphNode,
  rectangles: readonly Rectangle[],
  sample: Sample,
) {
  const pageSizes = new Set(investigation.capture.steps.map(({ page_size }) => page_size));
  return {
    headWidth: node.heads && node.heads > 1 ? node.columns / node.heads : null,
    pageSize: pageSizes.size === 1 ? ([...pageSizes][0] ?? null) : null,
    tile: tileOf(rectangles, sample, node.columns),
  };
}

const mostRectangles = 64;

/** The extent of a failing unit as the judgement sees it, over the elements shown. */
function rectanglesOf(investigation: Investigation, { node }: UnitCheck, sample: Sample): Rectangle[] {
  const { comparison } = investigation.checkNoise(node.name, investigation.evaluator, sample);
  const region = regionOf(comparison, node);
  if (!region) return [];
  const [rows, columns] = [[...sample.rows], [...sample.columns]];
  const anyColumn = columns.find((column) => region.contains(region.firstRow, column));
  if (anyColumn === undefined) return [];
  const across = runs(columns.map((column) => region.contains(region.firstRow, column)));
  const down = runs(rows.map((row) => region.contains(row, anyColumn)));
  return down.flatMap((r) => across.map((c) => ({ rows: r, columns: c }))).slice(0, mostRectangles);
}

/** First and last index of each run of true. */
function runs(inside: readonly boolean[]): [number, number][] {
  const out: [number, number][] = [];
  inside.forEach((is, i) => {
    if (is && inside[i - 1]) out.at(-1)![1] = i;
    else if (is) out.push([i, i]);
  });
  return out;
}

const tiles = [256, 128, 64, 32, 16];

/** The largest tile at whose edges the wrong columns begin and end; 64 where there are none. */
function tileOf(rectangles: readonly Rectangle[], { columns }: Sample, width: number): number {
  const edges = rectangles.flatMap((r) => [columns[r.columns[0]]!, columns[r.columns[1]]! + 1]);
  const inside = edges.filter((edge) => edge !== 0 && edge !== width);
  return (inside.length > 0 && tiles.find((tile) => inside.every((edge) => edge % tile === 0))) || 64;
}
