import type { PageData, UnitElements, ValueView } from "../page-data.js";
import { element, fill, section } from "./element.js";
import { histogram } from "./histogram.js";
import { count, percent, short } from "./numbers.js";
import type { Selection } from "./selection.js";
import { unitMaps } from "./unit-maps.js";

/** Fetches the elements of a unit that the page does not hold; undefined where nobody can be asked. */
export type Fetch = (unit: string, step: number | null) => Promise<UnitElements | string>;

/** One value: its facts, its maps, its histogram, what the model means by it. */
export function unitSection(data: PageData, selection: Selection, ask: Fetch | undefined): HTMLElement {
  const held = new Map(data.run.elements.map((elements) => [elements.unit, elements]));
  const body = element("div", { id: "unit-body" });
  const show = async () => {
    const { unit, step } = selection.now;
    const value = data.run.values.find(({ name }) => name === unit);
    if (!value) return fill(body, element("p", {}, "Nothing was recorded."));
    const head = heading(value, data, selection);
    const known = ask && step !== null ? undefined : held.get(value.name);
    if (known) return fill(body, ...head, ...elementsOf(known, data, step, value));
    if (!ask || value.op === "host") return fill(body, ...head, meaning(value), missing(value, data));
    fill(body, ...head, element("p", { class: "note", role: "status" }, "Evaluating its elements …"));
    const found = await ask(value.name, step);
    if (selection.now.unit !== unit || selection.now.step !== step) return;
    if (typeof found === "string") return fill(body, ...head, meaning(value), element("p", { class: "note" }, found));
    fill(body, ...head, ...elementsOf(found, data, step, value));
  };
  selection.listen((now, before) => {
    if (now.unit !== before.unit || now.step !== before.step) void show();
  });
  void show();
  return section("unit", "Elements", body);
}

function heading(value: ValueView, data: PageData, selection: Selection): Node[] {
  const shown = data.run.elements.map(({ unit }) => unit);
  const choices = [...new Set([...shown, value.name])].sort((a, b) => indexOf(data, a) - indexOf(data, b));
  const select = element("select", {
    id: "unit-choice",
    "aria-label": "Value",
    // By number: a name may be spelled otherwise where it is shown.
    change: () => selection.change({ unit: choices[select.selectedIndex]! }),
  });
  for (const name of choices) select.append(element("option", { selected: name === value.name }, name));
  return [
    element("div", { class: "unit-head" }, select, chip(value)),
    element(
      "dl",
      { class: "facts" },
      ...facts(value, data).map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))),
    ),
  ];
}

function indexOf(data: PageData, name: string): number {
  return data.run.values.findIndex((value) => value.name === name);
}

function chip({ state }: ValueView): HTMLElement {
  const words = {
    recipe: "right, bit for bit",
    departs: "right, another recipe",
    rounding: "within rounding",
    wrong: "wrong",
    seam: "wrong as handed on",
    read: "read only",
    unchecked: "unchecked",
  };
  return element("span", { class: `chip ${state}` }, words[state]);
}

function facts(value: ValueView, { causes }: PageData): [string, string][] {
  const out: [string, string][] = [];
  if (value.causes.length > 0)
    out.push([
      value.causes.length > 1 ? "causes" : "cause",
      value.causes.map((i) => `${i + 1} ${causes[i]!.id}`).join(", "),
    ]);
  if (value.of > 0) out.push(["z", `rms ${short(value.rmsZ)}, at most ${short(value.maxZ)}`]);
  if (value.equal !== null && value.state !== "wrong")
    out.push(["equal", `${percent(value.equal)} of ${count(value.compared)} elements`]);
  if (value.extent !== "") out.push(["extent", value.extent]);
  out.push([
    "rounds as",
    value.recipe ?? (value.state === "wrong" ? "no recipe gives its bits as the spec has it" : "not known"),
  ]);
  if (value.of > 0)
    out.push([
      "largest",
      value.holds === "zeros"
        ? "all zeros"
        : `${short(value.largest)}${value.holds === "nan" ? ", and NaN" : value.holds === "infinite" ? ", and infinities" : ""}`,
    ]);
  return out;
}

function elementsOf(elements: UnitElements, data: PageData, step: number | null, value: ValueView): Node[] {
  return [
    unitMaps(elements, data, step),
    element("p", { class: "note" }, shownWords(elements)),
    element(
      "div",
      { class: "beside" },
      element("div", {}, element("h3", {}, "How far off"), histogram(elements.histogram, elements.leftHistogram)),
      meaning(value),
    ),
  ];
}

/** What is shown, and what stands for more than itself. */
function shownWords({
  rows,
  columns,
  of,
  down,
  across,
  at,
  tile,
  headWidth,
  pageSize,
  dtype,
  basis,
}: UnitElements): string {
  const wide = "count" in columns ? columns.count : columns.length;
  const isPart = rows.length < of.rows || wide < of.columns;
  const part = isPart
    ? `A sample of ${count(rows.length)} of ${count(of.rows)} rows and ${count(wide)} of ${count(of.columns)} columns`
    : `All ${count(rows.length)} rows and ${count(wide)} columns`;
  const cells =
    at === null
      ? "a cell for each element"
      : `of the elements in each of ${down} × ${across} cells the one with the largest |difference| is shown`;
  const lines = [
    wide === of.columns ? `a faint line every ${tile} columns` : "",
    headWidth ? "a strong one between heads" : "",
    pageSize ? `a level one where a page of ${pageSize} begins` : "",
  ].filter(Boolean);
  const drawn = lines.length > 0 ? ` Lines: ${lines.join(", ")}.` : "";
  return `${part} in ${dtype}, ${cells}. ${basis}. Numbers at the left are positions.${drawn}`;
}

function meaning({ meaning }: ValueView): HTMLElement {
  return element(
    "div",
    {},
    element("h3", {}, "What the model means"),
    element("pre", { class: "meaning" }, ...meaning.flatMap((line) => [line, document.createTextNode("\n")])),
  );
}

function missing(value: ValueView, { commands }: PageData): HTMLElement {
  const view = commands.find(({ command }) => command?.startsWith("faultline view"));
  if (value.op === "host" || !view) return element("p", { class: "note" }, "It has no elements to draw.");
  return element(
    "p",
    { class: "note" },
    "Its elements are not in this file. Any element on demand: ",
    element("code", {}, view.command),
  );
}
