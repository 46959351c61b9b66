import type { PageData, RowView, UnitElements } from "../page-data.js";
import { differenceColour, farUlps, ValueScale } from "./colours.js";
import { element, fill } from "./element.js";
import { HeatMap, type Marks, mapHeight } from "./heat-map.js";
import { floats, integers, short } from "./numbers.js";

/** A unit's elements in numbers, and where each cell's element stands. */
class Elements {
  readonly expected: Float32Array;
  readonly observed: Float32Array;
  readonly ulps: Float32Array;
  readonly left: Float32Array | undefined;
  readonly reference: Float32Array | undefined;
  readonly columns: readonly number[];
  readonly #at: Uint32Array | undefined;

  constructor(readonly data: UnitElements) {
    const { expected, observed, ulps, left, reference, at, columns } = data;
    this.expected = floats(expected);
    this.observed = floats(observed);
    this.ulps = floats(ulps);
    this.left = left === null ? undefined : floats(left);
    this.reference = reference === null ? undefined : floats(reference);
    this.columns = "count" in columns ? Array.from({ length: columns.count }, (_, i) => columns.first + i) : columns;
    this.#at = at === null ? undefined : integers(at);
  }

  /** Row of the row table and column of the element that a cell shows. */
  place(cell: number): { row: number; column: number } {
    const element = this.#at ? this.#at[cell]! : cell;
    const width = this.columns.length;
    return { row: this.data.rows[Math.floor(element / width)]!, column: this.columns[element % width]! };
  }
}

/** The maps of one unit under each other: what is meant, what was recorded, how far apart, what the causes leave. */
export function unitMaps(data: UnitElements, { run, causes }: PageData, step: number | null): HTMLElement {
  const elements = new Elements(data);
  const scale = new ValueScale(elements.expected);
  const readout = element("p", { id: "readout", "aria-live": "polite" });
  const marks = marksOf(elements, run.rows, step, run.steps[step ?? -1]?.step);
  const maps: HeatMap[] = [];
  const point = (cell: number) => {
    for (const map of maps) map.frame(cell);
    fill(readout, ...readoutOf(elements, cell, run.rows));
  };
  const { down, across } = data;
  const size = `${down} × ${across} cells`;
  const common = { down, across, marks, rowLabels: rowLabels(elements, run.rows), point };
  const values = (id: string, title: string, numbers: Float32Array) =>
    new HeatMap({
      ...common,
      id,
      title,
      legend: valueLegend(scale),
      label: `${title}: ${size}; arrow keys go from cell to cell`,
      colour: (cell, colours) => scale.colour(numbers[cell]!, colours),
    });
  const differences = (id: string, title: string, numbers: Float32Array) =>
    new HeatMap({
      ...common,
      id,
      title,
      legend: differenceLegend(),
      label: `${title}: ${size}`,
      colour: (cell, colours) => differenceColour(numbers[cell]!, colours),
    });
  maps.push(
    values("map-expected", "Expected", elements.expected),
    values("map-observed", "Observed", elements.observed),
  );
  maps.push(differences("map-difference", "Difference", elements.ulps));
  if (elements.left)
    maps.push(
      differences("map-left", `Difference with the cause${causes.length > 1 ? "s" : ""} in the spec`, elements.left),
    );
  if (elements.reference) maps.push(values("map-reference", "Reference run", elements.reference));
  const worst = elements.ulps.reduce((best, x, i) => (sizeOf(x) > sizeOf(elements.ulps[best]!) ? i : best), 0);
  point(worst);
  const side = across <= 128 ? (maps.length === 3 ? "three" : "two") : "one";
  return element(
    "div",
    { class: `maps ${side}`, "data-cells": down * across },
    ...maps.map(({ figure }) => figure),
    readout,
  );
}

const sizeOf = (x: number) => (Number.isNaN(x) ? Infinity : Math.abs(x));

/** What one cell's element is, in words. */
function readoutOf(elements: Elements, cell: number, rows: readonly RowView[]): Node[] {
  const { row, column } = elements.place(cell);
  const { headWidth } = elements.data;
  const at = rows[row];
  const head = headWidth ? ` (head ${Math.floor(column / headWidth)}, channel ${column % headWidth})` : "";
  const token = at ? `sequence ${at.sequence}, position ${at.position}, token ${at.token}` : "";
  const pairs: [string, string][] = [
    ["row", `${row}`],
    ["column", `${column}${head}`],
    ["expected", short(elements.expected[cell]!)],
    ["observed", short(elements.observed[cell]!)],
    ["off by", `${short(elements.ulps[cell]!)} ${Math.abs(elements.ulps[cell]!) === 1 ? "ulp" : "ulps"}`],
  ];
  if (elements.left) pairs.push(["with the causes", `${short(elements.left[cell]!)} ulps`]);
  if (elements.reference) pairs.push(["reference", short(elements.reference[cell]!)]);
  return [
    ...pairs.map(([name, value]) => element("span", { class: "pair" }, element("b", {}, name), " ", value)),
    element("span", { class: "pair wide" }, token, at?.text ? element("bdi", { class: "token" }, at.text) : null),
  ];
}

function marksOf(
  { data, columns }: Elements,
  rows: readonly RowView[],
  step: number | null,
  number: number | undefined,
): Marks {
  const { down, across, headWidth, pageSize, tile } = data;
  const perRow = data.rows.length / down;
  const perColumn = columns.length / across;
  const own = data.rows.map((row) => rows[row]);
  const starts = (is: (i: number) => boolean) =>
    [...data.rows.keys()].filter((i) => i > 0 && is(i)).map((i) => i / perRow);
  const every = (width: number) =>
    [...columns.keys()]
      .filter((i) => i > 0 && Math.floor(columns[i]! / width) !== Math.floor(columns[i - 1]! / width))
      .map((i) => i / perColumn);
  const sampled = columns.length < data.of.columns;
  const crowded = (lines: readonly number[]) => (lines.length > across / 4 ? [] : lines);
  const dimmed = step === null ? [] : [...own.keys()].filter((i) => own[i]?.step !== step && number !== undefined);
  return {
    heads: headWidth ? crowded(every(headWidth)) : [],
    tiles: sampled ? [] : crowded(every(tile)),
    pages: pageSize ? starts((i) => own[i] !== undefined && own[i]!.position % pageSize === 0) : [],
    steps: starts((i) => own[i]?.step !== own[i - 1]?.step),
    rectangles: data.rectangles.map((r) => ({
      x: r.columns[0] / perColumn,
      y: r.rows[0] / perRow,
      width: (r.columns[1] - r.columns[0] + 1) / perColumn,
      height: (r.rows[1] - r.rows[0] + 1) / perRow,
    })),
    dimmed: dimmed.map((i) => ({ y: i / perRow, height: 1 / perRow })),
  };
}

/** Pixels that a label takes. */
const labelHeight = 14;

function rowLabels({ data }: Elements, rows: readonly RowView[]): { at: number; text: string }[] {
  const every = Math.max(1, Math.ceil((data.down * labelHeight) / mapHeight(data.down)));
  return Array.from({ length: Math.ceil(data.down / every) }, (_, i) => {
    const at = i * every;
    const row = data.rows[Math.floor((at * data.rows.length) / data.down)]!;
    const position = rows[row]?.position;
    return { at, text: position === undefined ? `${row}` : `${position}` };
  });
}

function valueLegend(scale: ValueScale): HTMLElement {
  const most = short(scale.most);
  return element(
    "span",
    { class: "scale" },
    `−${most}`,
    element("span", { class: "ramp values", "aria-hidden": true }),
    most,
    element("span", { class: "swatch beyond", "aria-hidden": true }),
    "beyond",
    element("span", { class: "swatch nan", "aria-hidden": true }),
    "NaN",
  );
}

function differenceLegend(): HTMLElement {
  return element(
    "span",
    { class: "scale" },
    "0",
    element("span", { class: "ramp ulps", "aria-hidden": true }),
    `${farUlps} ulps and more`,
  );
}
