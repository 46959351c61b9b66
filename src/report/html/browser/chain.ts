import type { PageData, ValueView } from "../page-data.js";
import { drawing, element, section } from "./element.js";
import { short } from "./numbers.js";
import type { Selection } from "./selection.js";

const width = 960;
const height = 260;
const margin = { left: 56, right: 16, top: 22, bottom: 30 };

/** From cause to symptom: the size of every recorded value by layer, on a logarithmic scale, and what became of it in words. */
export function chainSection({ run, chain, proof, verdict }: PageData, selection: Selection): HTMLElement | null {
  const drawn = run.values.filter(({ layer, of }) => layer !== null && of > 0);
  if (drawn.length === 0 && chain.length === 0) return null;
  const title = verdict.state === "clean" ? "Magnitudes" : "From cause to symptom";
  const lines = [
    ...chain,
    ...(proof.fromTokens ? [`run again from its tokens with the causes: ${proof.fromTokens}`] : []),
  ];
  return section(
    "chain",
    title,
    lines.length > 0 && element("ol", { class: "chain" }, ...lines.map((line) => element("li", {}, line))),
    drawn.length > 0 && chart(drawn, run, selection),
    drawn.length > 0 &&
      element(
        "p",
        { class: "note" },
        "Largest |x| of each recorded value's sample. The line is the residual stream as each layer leaves it; dots are the other values of the layer; filled red ones are wrong.",
      ),
  );
}

function chart(values: readonly ValueView[], run: PageData["run"], selection: Selection): HTMLElement {
  const sizes = values
    .filter(({ largest, holds }) => largest > 0 && holds !== "zeros")
    .map(({ largest }) => Math.log10(largest));
  const low = Math.floor(Math.min(...sizes, 0));
  const high = Math.ceil(Math.max(...sizes, 1)) + 0.5;
  const zeros = values.some(({ holds }) => holds === "zeros");
  const broken = values.some(({ holds }) => holds === "nan" || holds === "infinite");
  const bottom = height - margin.bottom - (zeros ? 18 : 0);
  const top = margin.top + (broken ? 18 : 0);
  const x = (layer: number) => margin.left + ((layer + 0.5) * (width - margin.left - margin.right)) / run.layers;
  const scale = (log: number) => bottom - ((log - low) / (high - low)) * (bottom - top);
  const y = ({ holds, largest }: ValueView) =>
    holds === "nan" || holds === "infinite"
      ? margin.top
      : holds === "zeros" || largest === 0
        ? height - margin.bottom
        : scale(Math.log10(largest));
  const label = chartWords(values);
  const graph = drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label });
  const every = Math.max(1, Math.ceil((high - low) / 7));
  for (let log = low; log <= high; log += every)
    graph.append(
      drawing("line", { x1: margin.left, x2: width - margin.right, y1: scale(log), y2: scale(log), class: "grid" }),
      drawing(
        "text",
        { x: margin.left - 8, y: scale(log) + 4, class: "tick end" },
        log === 0 ? "1" : log === 1 ? "10" : `1e${log}`,
      ),
    );
  for (const { at, what } of run.limits) {
    const log = Math.log10(at);
    if (log < low || log > high) continue;
    graph.append(
      drawing("line", { x1: margin.left, x2: width - margin.right, y1: scale(log), y2: scale(log), class: "limit" }),
      drawing("text", { x: width - margin.right, y: scale(log) - 5, class: "tick end limit" }, `${what}, ${short(at)}`),
    );
  }
  if (zeros)
    graph.append(drawing("text", { x: margin.left - 8, y: height - margin.bottom + 4, class: "tick end" }, "0"));
  if (broken) graph.append(drawing("text", { x: margin.left - 8, y: margin.top + 4, class: "tick end" }, "NaN, ∞"));
  const names = run.layers > 40 ? 10 : run.layers > 20 ? 2 : 1;
  for (let layer = 0; layer < run.layers; layer += names)
    graph.append(drawing("text", { x: x(layer), y: height - 8, class: "tick" }, layer));
  const stream = values.filter((value) => value.stream).sort((a, b) => a.layer! - b.layer!);
  const points = stream.map((value) => `${x(value.layer!)},${y(value)}`).join(" ");
  const dot = (value: ValueView, radius: number) =>
    drawing(
      "circle",
      {
        cx: x(value.layer!),
        cy: y(value),
        r: radius,
        class: `dot ${value.state}${value.stream ? " stream" : ""}`,
        click: () => selection.change({ unit: value.name }),
      },
      drawing("title", {}, `${value.name}: ${value.holds === "zeros" ? "all zeros" : short(value.largest)}`),
    );
  const order = (value: ValueView) => (value.state === "wrong" ? 2 : value.stream ? 1 : 0);
  graph.append(
    drawing("polyline", { points, class: "stream" }),
    ...[...values]
      .sort((a, b) => order(a) - order(b))
      .map((value) => dot(value, value.state === "wrong" ? 4.5 : value.stream ? 3.5 : 2)),
  );
  return element("div", { class: "scroller" }, graph);
}

function chartWords(values: readonly ValueView[]): string {
  const stream = values.filter((value) => value.stream);
  const words = stream.map(
    ({ layer, largest, holds }) => `layer ${layer} ${holds === "zeros" ? "zeros" : short(largest)}`,
  );
  return `Largest magnitude by layer${words.length > 0 ? `, residual stream: ${words.join(", ")}` : ""}`;
}
