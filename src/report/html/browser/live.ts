import type { PageData, UnitElements } from "../page-data.js";
import { element, fill } from "./element.js";
import type { Fetch } from "./unit.js";

/** What the server says of its work. */
interface Progress {
  readonly stage: string;
  readonly done: number;
  readonly ready: boolean;
  readonly failed?: string;
}

/** Waits, with what is being done on the page, until the server has judged the recording. */
export async function whenReady(page: HTMLElement): Promise<PageData | undefined> {
  const words = element("p", { role: "status" });
  const bar = element("progress", { max: 1, value: 0, "aria-label": "Diagnosis" });
  fill(
    page,
    element(
      "div",
      { class: "waiting" },
      element("p", { class: "mark" }, "fault", element("span", {}, "line")),
      bar,
      words,
    ),
  );
  for (;;) {
    const progress = (await json("state")) as Progress;
    fill(
      words,
      progress.failed ?? `${progress.stage}${progress.done > 0 ? ` ${Math.round(100 * progress.done)}%` : ""}`,
    );
    bar.value = progress.done;
    if (progress.failed !== undefined) return undefined;
    if (progress.ready) return (await json("report")) as PageData;
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

/** Elements of any unit, from the server. */
export const askServer: Fetch = async (unit, step) => {
  const query = new URLSearchParams({ unit, ...(step !== null && { step: String(step) }) });
  const found = (await json(`unit?${query}`)) as { elements?: UnitElements; why?: string };
  return found.elements ?? found.why ?? "The server gave no elements.";
};

async function json(path: string): Promise<unknown> {
  const response = await fetch(path);
  return response.json();
}
