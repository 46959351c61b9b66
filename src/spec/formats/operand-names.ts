import type { Quantisation } from "../../tensor/quantisation.js";
import type { OperandQuantisation } from "../ops/linear-recipes.js";

const kinds = {
  "power-of-two": "a power of two",
  "power-of-two-nearest": "a power of two, the nearest,",
  "power-of-two-above": "a power of two, the next one above,",
  e4m3: "an e4m3 scale",
} as const;

/**
 * A way to quantise an operand, with words for it.
 * @param merged what of it comes from the projections that a runtime merges with the product's own.
 */
export function described(quantisation: Quantisation, merged?: string): OperandQuantisation {
  const { format, tile, fixed, scaleType, scaling, aroundZero } = quantisation;
  const what = kinds[scaleType as keyof typeof kinds] ?? "a scale";
  const zero = scaling === "range" ? ` and a zero point${aroundZero ? " around 0" : ""}` : "";
  const place =
    fixed !== undefined
      ? "a fixed scale"
      : tile.rows === Infinity
        ? `${what}${zero} per step`
        : tile.columns === Infinity
          ? `${what}${zero} per token`
          : `${what}${zero} per ${tile.columns} channels`;
  const shared = merged ? `${place}, ${merged} of merged projections` : place;
  const id = `${format.id} ${shared.replace(/^an? /, "").replaceAll(",", "")}`.replaceAll(" ", "-");
  return { quantisation, id, title: `${format.title} with ${shared}`, merged: merged !== undefined };
}
