import type { PageData } from "../page-data.js";
import { element } from "./element.js";
import { themeButton } from "./theme.js";

/** What is always in sight: whose page it is, the verdict in a word, the way to each part. */
export function topBar({ verdict }: PageData, sections: readonly HTMLElement[]): HTMLElement {
  const links = sections.map((part) => element("a", { href: `#${part.id}` }, names[part.id] ?? part.id));
  return element(
    "header",
    { class: "top" },
    element("span", { class: "mark" }, "fault", element("span", {}, "line")),
    element("span", { class: `badge ${verdict.state}` }, verdict.state),
    element("nav", { "aria-label": "Parts" }, ...links),
    themeButton(),
  );
}

const names: Readonly<Record<string, string>> = {
  causes: "Causes",
  run: "Run",
  unit: "Elements",
  caches: "Caches",
  chain: "Chain",
  reference: "Reference",
  audits: "Audits",
  coverage: "Coverage",
  commands: "Reproduce",
};

/** The verdict in a sentence, and what was read. */
export function verdictBlock({ verdict, recording }: PageData): HTMLElement {
  return element(
    "section",
    { id: "verdict", class: `verdict ${verdict.state}`, "aria-label": "Verdict" },
    element("h1", {}, element("span", { class: `badge ${verdict.state}` }, verdict.state), " ", verdict.summary),
    element(
      "p",
      { class: "recording" },
      element("code", {}, recording.path),
      ` ${recording.model}: ${recording.words}`,
    ),
  );
}
