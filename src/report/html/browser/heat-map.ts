import { type Colour, palette } from "./colours.js";
import { drawing, element } from "./element.js";
import { onColours } from "./theme.js";

/** Lines and rectangles over a map, in cells. */
export interface Marks {
  /** Columns before which something begins: heads strongly, tiles faintly. */
  readonly heads: readonly number[];
  readonly tiles: readonly number[];
  /** Rows before which a page, and a step or sequence, begins. */
  readonly pages: readonly number[];
  readonly steps: readonly number[];
  readonly rectangles: readonly {
    readonly x: number;
    readonly y: number;
    readonly width: number;
    readonly height: number;
  }[];
  /** Rows of other steps than the one looked at. */
  readonly dimmed: readonly { readonly y: number; readonly height: number }[];
}

export interface HeatMapOptions {
  readonly id: string;
  readonly title: string;
  readonly legend: Node;
  readonly label: string;
  readonly down: number;
  readonly across: number;
  readonly colour: (cell: number, colours: ReturnType<typeof palette>) => Colour;
  readonly marks: Marks;
  readonly rowLabels: readonly { readonly at: number; readonly text: string }[];
  /** A cell is pointed at, by mouse or keys. */
  readonly point: (cell: number) => void;
}

/** Height of a map in pixels. */
export function mapHeight(down: number): number {
  return Math.round(Math.min(230, Math.max(76, down * 9)));
}

/** A map of cells with what is marked on it; the cell pointed at is framed. */
export class HeatMap {
  readonly figure: HTMLElement;
  readonly #options: HeatMapOptions;
  readonly #canvas: HTMLCanvasElement;
  readonly #cursor: SVGRectElement;
  #cell = 0;

  constructor(options: HeatMapOptions) {
    this.#options = options;
    const { id, title, legend, label, down, across, marks, rowLabels } = options;
    this.#canvas = element("canvas", {
      id,
      width: across,
      height: down,
      tabindex: 0,
      role: "img",
      "aria-label": label,
      "aria-describedby": "readout",
      pointermove: (event: PointerEvent) => this.#pointer(event),
      keydown: (event: KeyboardEvent) => this.#key(event),
    });
    this.#cursor = drawing("rect", { class: "cursor", width: 1, height: 1 });
    const overlay = drawing("svg", {
      viewBox: `0 0 ${across} ${down}`,
      preserveAspectRatio: "none",
      "aria-hidden": true,
    });
    overlay.append(...markShapes(marks, down, across), this.#cursor);
    const labels = element("div", { class: "rows", "aria-hidden": true });
    for (const { at, text } of rowLabels) {
      const tick = element("span", {}, text);
      tick.style.top = `${(100 * (at + 0.5)) / down}%`;
      labels.append(tick);
    }
    const area = element("div", { class: "area" }, this.#canvas, overlay);
    area.style.height = `${mapHeight(down)}px`;
    this.figure = element(
      "figure",
      { class: "map" },
      element("figcaption", {}, element("span", { class: "map-title" }, title), legend),
      element("div", { class: "framed" }, labels, area),
    );
    this.paint();
    onColours(() => this.paint());
  }

  paint(): void {
    const { down, across, colour } = this.#options;
    const context = this.#canvas.getContext("2d")!;
    const image = context.createImageData(across, down);
    const colours = palette();
    for (let cell = 0; cell < down * across; cell++) {
      const [red, green, blue] = colour(cell, colours);
      image.data.set([red, green, blue, 255], 4 * cell);
    }
    context.putImageData(image, 0, 0);
  }

  /** Frames a cell, which another map of the same elements may point at. */
  frame(cell: number): void {
    this.#cell = cell;
    const { across } = this.#options;
    this.#cursor.setAttribute("x", String(cell % across));
    this.#cursor.setAttribute("y", String(Math.floor(cell / across)));
    this.#cursor.classList.add("shown");
  }

  #pointer(event: PointerEvent): void {
    const { down, across, point } = this.#options;
    const box = this.#canvas.getBoundingClientRect();
    const x = Math.min(across - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * across)));
    const y = Math.min(down - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * down)));
    point(y * across + x);
  }

  #key(event: KeyboardEvent): void {
    const { down, across, point } = this.#options;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const far = event.shiftKey ? 8 : 1;
    const x = Math.min(across - 1, Math.max(0, (this.#cell % across) + step[0]! * far));
    const y = Math.min(down - 1, Math.max(0, Math.floor(this.#cell / across) + step[1]! * far));
    point(y * across + x);
  }
}

function markShapes(marks: Marks, down: number, across: number): SVGElement[] {
  const upright = (x: number, name: string) => drawing("line", { x1: x, x2: x, y1: 0, y2: down, class: name });
  const level = (y: number, name: string) => drawing("line", { x1: 0, x2: across, y1: y, y2: y, class: name });
  return [
    ...marks.dimmed.map(({ y, height }) => drawing("rect", { x: 0, y, width: across, height, class: "dimmed" })),
    ...marks.tiles.map((x) => upright(x, "tile")),
    ...marks.heads.map((x) => upright(x, "head")),
    ...marks.pages.map((y) => level(y, "page")),
    ...marks.steps.map((y) => level(y, "step")),
    ...marks.rectangles.map(({ x, y, width, height }) => drawing("rect", { x, y, width, height, class: "extent" })),
  ];
}
