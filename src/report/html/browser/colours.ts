/** Red, green, blue, 0 to 255. */
export type Colour = readonly [number, number, number];

/** Colours of heat maps, as the style sheet has them in the theme that is shown. */
export interface Palette {
  readonly zero: Colour;
  readonly positive: Colour;
  readonly negative: Colour;
  readonly beyond: Colour;
  readonly notNumber: Colour;
  readonly difference: readonly Colour[];
}

/** Reads the palette from the style sheet. */
export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string): Colour => {
    const hex = style.getPropertyValue(name).trim().replace("#", "");
    return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as unknown as Colour;
  };
  return {
    zero: read("--heat-zero"),
    positive: read("--heat-positive"),
    negative: read("--heat-negative"),
    beyond: read("--heat-beyond"),
    notNumber: read("--heat-nan"),
    difference: [0, 1, 2, 3, 4].map((i) => read(`--ulp-${i}`)),
  };
}

/** How the numbers of expected and observed values become colours: as asinh, so that small ones show beside large ones. */
export class ValueScale {
  /** Where colours end. */
  readonly most: number;
  readonly #small: number;

  /** @param expected the scale is that of what is meant; what was recorded beyond it is marked. */
  constructor(expected: Float32Array) {
    const sizes = [...expected]
      .filter((x) => Number.isFinite(x) && x !== 0)
      .map(Math.abs)
      .sort((a, b) => a - b);
    this.most = sizes.length > 0 ? sizes.at(-1)! : 1;
    this.#small = sizes.length > 0 ? Math.max(sizes[sizes.length >> 1]!, this.most * 1e-6) : 1;
  }

  colour(x: number, { zero, positive, negative, beyond, notNumber }: Palette): Colour {
    if (Number.isNaN(x)) return notNumber;
    // A few ulps further are not another range.
    if (Math.abs(x) > 2 * this.most) return beyond;
    const share = Math.asinh(Math.abs(x) / this.#small) / Math.asinh(this.most / this.#small);
    return between(zero, x < 0 ? negative : positive, Math.min(1, share));
  }
}

/** Ulps from which a difference has the last colour. */
export const farUlps = 4096;

/** The colour of a difference in ulps: none, and then by powers of two. */
export function differenceColour(ulps: number, { difference, notNumber }: Palette): Colour {
  if (Number.isNaN(ulps)) return notNumber;
  if (ulps === 0) return difference[0]!;
  const share = Math.min(1, Math.log2(1 + Math.abs(ulps)) / Math.log2(1 + farUlps));
  const at = 1 + share * (difference.length - 2);
  const low = Math.min(difference.length - 2, Math.floor(at));
  return between(difference[low]!, difference[low + 1]!, at - low);
}

function between(a: Colour, b: Colour, share: number): Colour {
  return a.map((x, i) => Math.round(x + (b[i]! - x) * share)) as unknown as Colour;
}
