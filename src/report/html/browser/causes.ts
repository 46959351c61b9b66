import type { CauseCard, PageData } from "../page-data.js";
import { type Child, element, section } from "./element.js";
import { count, percent } from "./numbers.js";
import type { Selection } from "./selection.js";

/** Units that are listed before the rest is folded away. */
const mostUnits = 6;

/** What is wrong: the causes, and what nothing explains. */
export function causesSection(data: PageData, selection: Selection): HTMLElement | null {
  const { causes, unexplained } = data;
  if (causes.length === 0 && unexplained.length === 0) return null;
  const cards = causes.map((cause, i) => card(cause, i, data, selection));
  const open = unexplained.map(({ unit, words, nearest }) =>
    element(
      "article",
      { class: "cause open" },
      element("h3", {}, unitLink(unit, selection)),
      element("p", {}, words),
      ...nearest.map((near) => element("p", { class: "note" }, `near: ${near}`)),
    ),
  );
  const title = causes.length === 1 ? "The cause" : causes.length > 1 ? "The causes" : "What is wrong";
  const rest =
    open.length > 0
      ? [element("h3", { class: "between" }, "Wrong, and nothing in the catalogue explains it"), ...open]
      : [];
  return section("causes", title, ...cards, ...rest);
}

function card(cause: CauseCard, index: number, { proof, causes }: PageData, selection: Selection): HTMLElement {
  const shown = cause.units.slice(0, mostUnits).map((unit) => unitLink(unit, selection));
  const folded = cause.units.slice(mostUnits);
  const more =
    folded.length > 0
      ? element(
          "details",
          {},
          element("summary", {}, `and ${folded.length} more`),
          ...folded.map((unit) => unitLink(unit, selection)),
        )
      : null;
  return element(
    "article",
    { class: "cause" },
    element(
      "header",
      {},
      element("span", { class: "number", "aria-hidden": true }, index + 1),
      element("h3", {}, cause.id),
      element("span", { class: "kind" }, cause.kind),
      cause.latent && element("span", { class: "kind latent" }, "latent"),
      element(
        "span",
        { class: "transform", title: `${cause.legend} ${cause.transform}` },
        cause.transform.split(":")[0],
      ),
    ),
    element("p", { class: "statement" }, cause.statement),
    element(
      "div",
      { class: "columns" },
      element(
        "dl",
        {},
        ...term("Where", element("div", { class: "units" }, ...shown), more),
        ...(cause.extent ? term("Extent", cause.extent) : []),
        ...(cause.found.length > 0 ? term("Found", found(cause.found)) : []),
        ...term("Change", cause.change),
        ...(cause.hidden.length > 0 ? term("Hidden in", ...cause.hidden.map((line) => element("p", {}, line))) : []),
        ...(cause.alternatives ? term("Or", cause.alternatives) : []),
      ),
      element("div", { class: "measures" }, ...evidence(cause), ...proofBars(cause, index, proof, causes.length)),
    ),
  );
}

function term(name: string, ...children: Child[]): Node[] {
  return [element("dt", {}, name), element("dd", {}, ...children)];
}

function found(pairs: CauseCard["found"]): HTMLElement {
  return element(
    "ul",
    { class: "found" },
    ...pairs.map(([name, value]) =>
      element("li", {}, element("code", {}, name), " ", element("span", { class: "value" }, value)),
    ),
  );
}

function evidence({ bits, evidence }: CauseCard): Node[] {
  if (!bits) return [element("h4", {}, "Evidence"), element("p", {}, evidence)];
  return [
    element("h4", {}, "Evidence in bits"),
    bar("with this cause", bits.equal / bits.compared, `${count(bits.equal)} of ${count(bits.compared)}`, "good"),
    ...(bits.without === null ? [] : [bar("without it", bits.without, percent(bits.without), "bad")]),
  ];
}

/** Units that the spec leaves unexplained, with the causes in it and without. */
function proofBars(
  { without }: CauseCard,
  index: number,
  { matched, of, asIs, repair }: PageData["proof"],
  causes: number,
): Node[] {
  // What records show by themselves is not computed by any unit: all of them match either way.
  const isComputed = without !== null && without < matched;
  const most = Math.max(1, of - asIs, of - matched, of - (without ?? of));
  const failing = (name: string, right: number) =>
    bar(name, (of - right) / most, right === of ? "none" : count(of - right), right === of ? "good" : "bad");
  return [
    element("h4", {}, `Proof: units left unexplained, of ${count(of)}`),
    failing(causes > 1 ? "with all causes" : "with this cause", matched),
    ...(isComputed
      ? [failing(causes > 1 ? `without cause ${index + 1}` : "without it", without)]
      : [
          element(
            "p",
            { class: "note" },
            "The records show this cause by themselves; every unit follows from what it was given.",
          ),
        ]),
    ...(causes > 1 ? [failing("with none", asIs)] : []),
    ...(repair && index === causes - 1
      ? [element("p", { class: "repair" }, element("b", {}, causes > 1 ? "All repaired: " : "Repaired: "), repair)]
      : []),
  ];
}

function bar(name: string, share: number, words: string, tone: "good" | "bad"): HTMLElement {
  const full = element("span", { class: `filled ${tone}` });
  full.style.width = `${100 * share}%`;
  return element(
    "div",
    { class: "bar" },
    element("span", { class: "name" }, name),
    element("span", { class: "track", "aria-hidden": true }, full),
    element("span", { class: "much" }, words),
  );
}

/** A unit's name that shows its elements. */
export function unitLink(unit: string, selection: Selection): HTMLElement {
  return element("a", { href: "#unit", class: "unit", click: () => selection.change({ unit }) }, unit);
}
