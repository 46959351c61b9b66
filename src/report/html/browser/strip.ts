import type { PageData, ValueState, ValueView } from "../page-data.js";
import { element, fill, section, set } from "./element.js";
import { count, short } from "./numbers.js";
import type { Selection } from "./selection.js";

const meanings: Readonly<Record<ValueState, string>> = {
  recipe: "bit for bit as its recipe rounds",
  departs: "bit for bit, by another recipe than its siblings",
  rounding: "within rounding",
  wrong: "wrong",
  seam: "named by a cause, its own numbers are right",
  read: "recorded as it was read only",
  unchecked: "nothing could be said",
};

/** The run as a strip: a row for each kind of value in order of execution, a column for each layer, a cell for each value. */
export function strip({ run, causes }: PageData, selection: Selection): HTMLElement {
  const cells = new Map<string, HTMLButtonElement>();
  const roles = [...new Set(run.values.map(({ role }) => role))];
  const grid = element("div", { class: "strip", role: "grid", "aria-label": "Recorded values by kind and layer" });
  grid.style.setProperty("--layers", String(run.layers));
  grid.append(headerRow(run.layers));
  const table = roles.map((role) => {
    const own = run.values.filter((value) => value.role === role);
    const line = element(
      "div",
      { role: "row", class: "line" },
      element("span", { role: "rowheader", class: "role", title: role }, shortRole(role)),
    );
    const row = own.map((value) => {
      const cell = element("button", { type: "button", role: "gridcell", tabindex: -1, click: () => choose(value) });
      cell.style.gridColumn = String(value.layer === null ? 2 : value.layer + 3);
      cells.set(value.name, cell);
      line.append(cell);
      return { value, cell };
    });
    grid.append(line);
    return row.sort((a, b) => (a.value.layer ?? -1) - (b.value.layer ?? -1));
  });
  const choose = (value: ValueView) => selection.change({ unit: value.name });
  const paint = () => {
    const { step, unit } = selection.now;
    for (const [i, value] of run.values.entries()) {
      const cell = cells.get(value.name)!;
      const state = stateIn(value, step);
      const z = step === null ? value.maxZ : (value.stepZ?.[step] ?? value.maxZ);
      cell.className = `cell ${state}${value.name === unit ? " chosen" : ""}${i === run.first ? " first" : ""}${i === run.worst ? " worst" : ""}`;
      if (state === "wrong") cell.style.setProperty("--heat", String(heatOf(z)));
      fill(
        cell,
        state === "wrong" || state === "seam"
          ? value.causes.length > 0
            ? value.causes.map((c) => c + 1).join("")
            : "?"
          : "",
      );
      const label = `${value.name}: ${state === "absent" ? "not recorded in this step" : wordsOf(value, state, z)}${i === run.first ? "; the first that is wrong" : ""}${i === run.worst ? "; the worst" : ""}`;
      set(cell, { "aria-label": label, title: label, "aria-selected": String(value.name === unit) });
      cell.tabIndex = value.name === unit ? 0 : -1;
    }
    if (![...cells.values()].some(({ tabIndex }) => tabIndex === 0)) cells.values().next().value!.tabIndex = 0;
  };
  grid.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const at = table.findIndex((row) => row.some(({ cell }) => cell === document.activeElement));
    if (!move || at < 0) return;
    event.preventDefault();
    const from = table[at]!.findIndex(({ cell }) => cell === document.activeElement);
    const next = move[0]
      ? table[at]![from + move[0]]
      : nearest(table[at + move[1]!] ?? [], table[at]![from]!.value.layer);
    if (!next) return;
    choose(next.value);
    next.cell.focus();
  });
  selection.listen(paint);
  paint();
  const scroller = element("div", { class: "scroller" }, grid);
  return section(
    "run",
    "The run",
    facts(run, causes.length),
    ...(run.steps.length > 1 ? [scrubber(run.steps, selection)] : []),
    scroller,
    legend(run.values),
  );
}

function headerRow(layers: number): HTMLElement {
  const header = element(
    "div",
    { role: "row", class: "line layers" },
    element("span", { role: "columnheader", class: "role" }, "layer"),
  );
  for (let layer = 0; layer < layers; layer++) {
    const name = element("span", { role: "columnheader" }, layers <= 40 || layer % 5 === 0 ? layer : "");
    name.style.gridColumn = String(layer + 3);
    header.append(name);
  }
  return header;
}

function nearest<T extends { value: ValueView }>(row: readonly T[], layer: number | null): T | undefined {
  const distance = ({ value }: T) => Math.abs((value.layer ?? -1) - (layer ?? -1));
  return [...row].sort((a, b) => distance(a) - distance(b))[0];
}

/** A value's state in one step; absent where it was not recorded in it. */
function stateIn(value: ValueView, step: number | null): ValueState | "absent" {
  if (step === null) return value.state;
  if (!value.steps.includes(step)) return "absent";
  const z = value.stepZ?.[step];
  return value.state === "wrong" && value.stepZ && (z === null || z === undefined || z <= 8) ? "rounding" : value.state;
}

/** 0 to 1 by the logarithm of |z|. */
function heatOf(z: number | null): number {
  return z === null ? 1 : Math.min(1, Math.max(0, Math.log10(Math.max(1, z)) / 8));
}

function wordsOf(value: ValueView, state: ValueState, z: number | null): string {
  const recipe = value.recipe && state !== "wrong" ? `: ${value.recipe}` : "";
  const size = value.of > 0 ? `; z at most ${short(z)}` : "";
  return `${meanings[state]}${recipe}${size}`;
}

/** "self_attn.q_proj" of "model.layers.*.self_attn.q_proj". */
function shortRole(role: string): string {
  return role.replace(/^model\.layers\.\*\.?/, "").replace(/^model\./, "") || "layer output";
}

function facts({ values, steps }: PageData["run"], causes: number): HTMLElement {
  const wrong = values.filter(({ state }) => state === "wrong" || state === "seam").length;
  const place =
    wrong === 0 ? "none wrong" : `${count(wrong)} wrong, with the number of ${causes === 1 ? "the" : "its"} cause`;
  const long = steps.length > 1 ? ` over ${steps.length} steps` : "";
  return element(
    "p",
    { class: "lead" },
    `${count(values.length)} recorded values${long}, each judged from its own recorded inputs: ${place}. Downwards in order of execution; choose one to see its elements.`,
  );
}

function scrubber(steps: PageData["run"]["steps"], selection: Selection): HTMLElement {
  const words = element("output", { for: "step" });
  const range = element("input", { type: "range", id: "step", min: -1, max: steps.length - 1, value: -1, step: 1 });
  const show = () => {
    const { step } = selection.now;
    const at = step === null ? undefined : steps[step]!;
    range.value = String(step ?? -1);
    fill(words, at ? `step ${at.step}: ${at.rows} rows of ${at.sequences} sequences` : `all ${steps.length} steps`);
    set(range, { "aria-valuetext": words.textContent ?? "" });
  };
  range.addEventListener("input", () =>
    selection.change({ step: Number(range.value) < 0 ? null : Number(range.value) }),
  );
  selection.listen(show);
  show();
  return element("div", { class: "scrubber" }, element("label", { for: "step" }, "Steps"), range, words);
}

function legend(values: readonly ValueView[]): HTMLElement {
  const states = (Object.keys(meanings) as ValueState[]).filter((state) =>
    values.some((value) => value.state === state),
  );
  const items = states.map((state) => {
    const swatch = element("span", { class: `cell ${state}`, "aria-hidden": true });
    swatch.style.setProperty("--heat", "0.6");
    return element(
      "li",
      {},
      swatch,
      `${meanings[state]} (${count(values.filter((value) => value.state === state).length)})`,
    );
  });
  const marks = values.some(({ state }) => state === "wrong")
    ? [
        element("li", {}, element("span", { class: "cell wrong first", "aria-hidden": true }), "the first"),
        element("li", {}, element("span", { class: "cell wrong worst", "aria-hidden": true }), "the worst"),
      ]
    : [];
  return element("ul", { class: "legend" }, ...items, ...marks);
}
