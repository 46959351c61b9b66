import type { PageData } from "../page-data.js";
import { element, section } from "./element.js";
import { percent } from "./numbers.js";

/** The four questions of every post-mortem, and the usual suspects. */
export function auditsSection({ audits, ruledOut }: PageData): HTMLElement {
  const rows = audits.map(({ name, pass, evidence }) =>
    element(
      "li",
      {},
      element("span", { class: `chip ${pass ? "recipe" : "wrong"}` }, pass ? "pass" : "fail"),
      element("b", {}, name),
      element("span", {}, evidence),
    ),
  );
  const suspects = ruledOut.map(({ suspect, evidence }) =>
    element("li", {}, element("b", {}, suspect), element("span", {}, evidence)),
  );
  return section(
    "audits",
    "Audits",
    element("ul", { class: "audits" }, ...rows),
    suspects.length > 0 &&
      element(
        "details",
        {},
        element("summary", {}, `Ruled out: ${suspects.length} usual suspects, with evidence`),
        element("ul", { class: "plain" }, ...suspects),
      ),
  );
}

/** How the run rounds, and what a pass does not exclude. */
export function coverageSection({ coverage, recipes, unchecked, notVisible, proof }: PageData): HTMLElement {
  const kinds = new Map<string, string[]>();
  for (const { cause, why } of notVisible) kinds.set(cause, [...(kinds.get(cause) ?? []), why]);
  const hidden = [...kinds].map(([cause, whys]) =>
    element("li", {}, element("code", {}, cause), element("span", {}, whys.join("; "))),
  );
  const open = unchecked.map(({ value, why }) =>
    element("li", {}, element("code", {}, value), element("span", {}, why)),
  );
  return section(
    "coverage",
    "What was covered, and what was not",
    element("p", { class: "lead" }, `${coverage}.`),
    ...proof.notes.map((note) => element("p", { class: "note" }, note)),
    fold(`Unchecked: ${open.length}`, open, open.length > 0 && open.length <= 6),
    fold(`Faults this recording could not have shown in some unit: ${hidden.length}`, hidden, false),
    recipes.length > 0 && roundings(recipes),
  );
}

function fold(title: string, items: readonly Node[], open: boolean): HTMLElement | null {
  return items.length === 0
    ? null
    : element("details", { open }, element("summary", {}, title), element("ul", { class: "plain" }, ...items));
}

function roundings(recipes: PageData["recipes"]): HTMLElement {
  const rows = recipes.map(({ unit, words, title, known, equal }) =>
    element(
      "tr",
      {},
      element("td", {}, element("code", {}, unit)),
      element("td", { class: "right" }, percent(equal)),
      element("td", {}, words),
      element("td", {}, title),
      element("td", {}, known),
    ),
  );
  const head = element(
    "tr",
    {},
    ...["unit", "bit for bit", "recipe", "what is rounded", "known from"].map((name) =>
      element("th", { scope: "col" }, name),
    ),
  );
  return element(
    "details",
    {},
    element("summary", {}, `How the run rounds: ${recipes.length} kinds of unit`),
    element(
      "div",
      { class: "scroller" },
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)),
    ),
  );
}

/** Two runs: where they part, and each value of both. */
export function referenceSection({ reference }: PageData): HTMLElement | null {
  if (!reference) return null;
  const rows = reference.values.map(({ unit, state, equal }) =>
    element(
      "tr",
      {},
      element("td", {}, element("code", {}, unit)),
      element("td", {}, state),
      element("td", { class: "right" }, percent(equal)),
    ),
  );
  const head = element("tr", {}, ...["value", "", "equal"].map((name) => element("th", { scope: "col" }, name)));
  return section(
    "reference",
    "Beside the reference",
    element("p", { class: "lead" }, reference.summary),
    element("p", { class: "note" }, reference.words),
    element(
      "details",
      {},
      element("summary", {}, `${rows.length} values in common`),
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)),
    ),
  );
}

/** What to type to see all of this again. */
export function commandsSection({ commands, version }: PageData): HTMLElement {
  const items = commands.map(({ what, command }) =>
    element(
      "li",
      {},
      element("p", {}, what),
      command !== undefined && element("pre", { class: "command", tabindex: 0 }, command),
    ),
  );
  return section(
    "commands",
    "Reproduce",
    element("ul", { class: "commands" }, ...items),
    element(
      "p",
      { class: "note" },
      `Written by faultline ${version}. Nothing in this page is fetched, and nothing of the recording is interpreted.`,
    ),
  );
}
