import { binCount, binLabel, binsEachSide } from "../ulp-bins.js";
import { drawing, element } from "./element.js";
import { count, percent } from "./numbers.js";

const width = 28;
const height = 120;

/** How far elements are from what is meant, in ulps, on a logarithmic scale of counts; with the causes in the spec beside it. */
export function histogram(counts: readonly number[], left: readonly number[] | null): HTMLElement {
  const most = Math.max(...counts, ...(left ?? []), 1);
  const tall = (n: number) => (n === 0 ? 0 : Math.max(2, (height * Math.log1p(n)) / Math.log1p(most)));
  const used = [...counts.keys()].filter((bin) => counts[bin]! > 0 || (left?.[bin] ?? 0) > 0);
  const [from, to] = [
    Math.min(...used, binsEachSide - 7),
    Math.max(...used.filter((bin) => bin < binCount - 1), binsEachSide + 7),
  ];
  const bins = [...counts.keys()].filter(
    (bin) => (bin >= from && bin <= to) || (bin === binCount - 1 && used.includes(bin)),
  );
  const graph = drawing("svg", {
    viewBox: `0 0 ${bins.length * width} ${height + 34}`,
    class: "histogram",
    role: "img",
    "aria-label": words(counts, left),
  });
  bins.forEach((bin, i) => {
    const x = i * width;
    const bar = (n: number, at: number, wide: number, name: string) =>
      drawing(
        "rect",
        { x: x + at, y: height - tall(n), width: wide, height: tall(n), class: name },
        drawing("title", {}, `${binLabel(bin)} ulps: ${count(n)} elements`),
      );
    const middle = x + width / 2;
    graph.append(
      ...(left
        ? [bar(counts[bin]!, 4, 10, "as-is"), bar(left[bin]!, 15, 9, "left")]
        : [bar(counts[bin]!, 5, 18, bin === binsEachSide ? "equal" : "as-is")]),
      drawing("text", { x: middle, y: height + 12, class: "tick" }, tick(bin)),
    );
  });
  graph.append(
    drawing("line", { x1: 0, x2: bins.length * width, y1: height, y2: height, class: "axis" }),
    drawing(
      "text",
      { x: (bins.length * width) / 2, y: height + 30, class: "tick" },
      "ulps from what is meant (each bar up to twice as far)",
    ),
  );
  return element("div", {}, graph, element("p", { class: "note" }, words(counts, left)));
}

function tick(bin: number): string {
  if (bin === binCount - 1) return "NaN";
  const away = Math.abs(bin - binsEachSide);
  const sign = bin < binsEachSide ? "−" : "";
  return away === 0
    ? "0"
    : away === binsEachSide
      ? `${sign}…`
      : away > 11
        ? `${sign}${2 ** (away - 11)}k`
        : `${sign}${2 ** (away - 1)}`;
}

function words(counts: readonly number[], left: readonly number[] | null): string {
  const of = counts.reduce((sum, n) => sum + n, 0);
  const equal = (bins: readonly number[]) =>
    `${count(bins[binsEachSide]!)} of ${count(of)} elements (${percent(bins[binsEachSide]! / Math.max(1, of))})`;
  const near = [-1, 1].reduce((sum, away) => sum + counts[binsEachSide + away]!, 0);
  const causes = left ? ` With the causes in the spec: ${equal(left)}.` : "";
  return `${equal(counts)} are bit for bit what is meant, ${count(near)} one ulp away, ${count(of - counts[binsEachSide]! - near)} further.${causes}`;
}
