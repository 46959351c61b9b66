import type { PageData } from "../page-data.js";
import { cachesSection } from "./caches.js";
import { causesSection } from "./causes.js";
import { chainSection } from "./chain.js";
import { element, fill } from "./element.js";
import { topBar, verdictBlock } from "./header.js";
import { auditsSection, commandsSection, coverageSection, referenceSection } from "./lists.js";
import { askServer, whenReady } from "./live.js";
import { Selection } from "./selection.js";
import { strip } from "./strip.js";
import { unitSection } from "./unit.js";

/** Puts a report on the page, in the order in which one asks. */
function show(page: HTMLElement, data: PageData): void {
  const { run, verdict } = data;
  const start = run.first ?? run.values.findIndex(({ name }) => name === run.elements[0]?.unit);
  const held = new Set(run.elements.map(({ unit }) => unit));
  const first = run.values[start]?.name;
  const unit = first !== undefined && held.has(first) ? first : (run.elements[0]?.unit ?? first ?? null);
  const selection = new Selection({ unit, step: null });
  const sections = [
    causesSection(data, selection),
    strip(data, selection),
    unitSection(data, selection, data.live ? askServer : undefined),
    cachesSection(data, selection),
    chainSection(data, selection),
    referenceSection(data),
    auditsSection(data),
    coverageSection(data),
    commandsSection(data),
  ].filter((part) => part !== null);
  document.title = `${verdict.state}: faultline`;
  fill(page, topBar(data, sections), verdictBlock(data), ...sections);
  document.body.dataset.state = "shown";
}

async function start(): Promise<void> {
  const page = document.getElementById("page")!;
  const data = JSON.parse(document.getElementById("data")!.textContent!) as PageData | { readonly waiting: true };
  const report = "waiting" in data ? await whenReady(page) : data;
  if (report) show(page, report);
}

start().catch((error: unknown) => {
  fill(
    document.getElementById("page")!,
    element("p", { role: "alert" }, `This page could not be drawn: ${String(error)}`),
  );
});
