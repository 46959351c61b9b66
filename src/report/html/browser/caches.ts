import type { CacheView, PageData } from "../page-data.js";
import { element, fill, section } from "./element.js";
import type { Selection } from "./selection.js";

type Sequence = CacheView["sequences"][number];
type KeyState = "wrong" | "elsewhere" | "written" | "earlier" | "unknown";

/** Pages as they are written and read: a box for each page in the order in which attention reads them, a cell for each key. */
export function cachesSection({ run }: PageData, selection: Selection): HTMLElement | null {
  if (run.caches.length === 0) return null;
  const body = element("div", { id: "cache-body" });
  const firstWrong = run.caches.findIndex(({ caches }) => caches.some(({ wrong }) => wrong.length > 0));
  let view = run.caches[Math.max(0, firstWrong)]!;
  let name = wrongestOf(view);
  const steps = element("select", { "aria-label": "Step", change: () => choose(run.caches[Number(steps.value)]!) });
  for (const [i, { step }] of run.caches.entries()) steps.append(element("option", { value: i }, `step ${step}`));
  const names = element("select", {
    "aria-label": "Cache",
    change: () => {
      name = view.caches[names.selectedIndex]!.name;
      paint();
    },
  });
  const choose = (next: CacheView) => {
    view = next;
    steps.value = String(run.caches.indexOf(view));
    name = view.caches.some((cache) => cache.name === name && cache.wrong.length > 0) ? name : wrongestOf(view);
    fill(
      names,
      ...view.caches.map((cache) =>
        element(
          "option",
          { selected: cache.name === name },
          `${cache.name}${cache.wrong.length > 0 ? `: ${cache.wrong.length} of ${cache.keys} wrong` : ""}`,
        ),
      ),
    );
    names.hidden = view.caches.length === 0;
    paint();
  };
  const paint = () => {
    const cache = view.caches.find((other) => other.name === name);
    const wrong = new Set(cache?.wrong.map(([b, position]) => `${b} ${position}`));
    fill(
      body,
      ...view.sequences.map((sequence, b) =>
        sequenceRow(sequence, view.pageSize, (position) => wrong.has(`${b} ${position}`)),
      ),
    );
  };
  selection.listen(({ step }) => {
    const next = run.caches.find((other) => other.step === run.steps[step ?? -1]?.step);
    if (next && next !== view) choose(next);
  });
  choose(view);
  return section(
    "caches",
    "Caches: pages as they are written and read",
    element("div", { class: "controls" }, steps, names),
    body,
    legend(),
  );
}

function wrongestOf({ caches }: CacheView): string {
  return [...caches].sort((a, b) => b.wrong.length - a.wrong.length)[0]?.name ?? "";
}

function sequenceRow(
  { sequence, length, pages, read, written }: Sequence,
  size: number,
  isWrong: (position: number) => boolean,
): HTMLElement {
  const boxes = pages.map((page, i) => {
    const first = i * size;
    const states = Array.from({ length: size }, (_, j) => stateOf(first + j, read, written, length, isWrong));
    const count = (state: KeyState) => states.filter((other) => other === state).length;
    const label = `page ${page}, ${i + 1}. of ${pages.length}: ${states.filter(Boolean).length} keys, ${count("written")} written in this step, ${count("wrong")} not what was appended, ${count("elsewhere")} written elsewhere`;
    const cells = states.map((state, j) =>
      element("span", { class: `slot ${state ?? "empty"}`, title: slotWords(first + j, read, written, state) }),
    );
    return element(
      "div",
      { class: "page-box", role: "img", "aria-label": label },
      element("span", { class: "page-name" }, page),
      element("div", { class: "slots" }, ...cells),
    );
  });
  return element(
    "div",
    { class: "sequence" },
    element("h3", {}, `Sequence ${sequence}: ${length} keys`),
    element("div", { class: "pages" }, ...boxes),
  );
}

function stateOf(
  position: number,
  read: readonly number[],
  written: readonly number[],
  length: number,
  isWrong: (position: number) => boolean,
): KeyState | undefined {
  if (position >= length || position >= read.length) return undefined;
  if (isWrong(position)) return "wrong";
  if (read[position]! < 0) return "unknown";
  if (written[position]! >= 0) return written[position] === read[position] ? "written" : "elsewhere";
  return "earlier";
}

function slotWords(
  position: number,
  read: readonly number[],
  written: readonly number[],
  state: KeyState | undefined,
): string {
  if (!state) return "no key";
  const writes = written[position]! >= 0 ? `, written to slot ${written[position]}` : "";
  return `position ${position}: read from slot ${read[position]}${writes}${state === "wrong" ? "; not what was appended" : ""}`;
}

function legend(): HTMLElement {
  const items: [KeyState | "empty", string][] = [
    ["earlier", "written in an earlier step"],
    ["written", "written in this step, where it is read"],
    ["elsewhere", "written in this step, to another slot than it is read from"],
    ["wrong", "what is read is not what was appended"],
    ["empty", "no key"],
  ];
  return element(
    "ul",
    { class: "legend" },
    ...items.map(([state, words]) =>
      element("li", {}, element("span", { class: `slot ${state}`, "aria-hidden": true }), words),
    ),
  );
}
