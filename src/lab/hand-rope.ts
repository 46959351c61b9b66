import { emptyBlock, type Op } from "../spec/op.js";
import { ropeRecipes } from "../spec/ops/rope.js";
import type { RopeAttributes } from "../spec/ops/rope-attributes.js";
import type { RowTable } from "../spec/rows.js";
import { roundTo } from "../tensor/dtype.js";

/** What a rotation does otherwise. */
export interface HandRope {
  /** Position a row is rotated to. */
  readonly position?: (row: number, position: number, table: RowTable) => number;
  /** Angle of a pair of channels at a position. */
  readonly angle?: (position: number, pair: number) => number;
  /** Cosine and sine of a pair, from its angle. */
  readonly turn?: (angle: number) => readonly [cos: number, sin: number];
  /** Whether neighbours are pairs, not channels half a head apart. */
  readonly neighbours?: boolean;
  /** Channels of a head that rotate. */
  readonly width?: number;
}

/** A rotation written out: pair by pair, rounded where the run rounds. */
export function handRope(a: RopeAttributes, hand: HandRope): Op {
  const width = hand.width ?? a.rotaryDim;
  const half = width / 2;
  const angle = hand.angle ?? ((position: number, pair: number) => position * a.inverseFrequencies[pair]!);
  const turn = hand.turn ?? ((by: number) => [Math.cos(by), Math.sin(by)] as const);
  return {
    kind: "rope",
    attributes: {},
    recipes: ropeRecipes,
    evaluate(context, rows, columns) {
      const { rows: table, rounding } = context;
      const x = context.input(0, rows).value;
      const inputs = context.width(0);
      const out = emptyBlock(rows.length * columns.length, false);
      const stored = (value: number, isStored: unknown) =>
        rounding && isStored ? roundTo(value, rounding.store) : value;
      rows.forEach((row, r) => {
        const own = table.rotaryPosition(row);
        const position = hand.position?.(row, own, table) ?? own;
        columns.forEach((column, c) => {
          const channel = column % a.headDim;
          const value = x[r * inputs + column]!;
          if (channel >= width) {
            out.value[r * columns.length + c] = value;
            return;
          }
          const [pair, isFirst] = hand.neighbours
            ? [channel >> 1, channel % 2 === 0]
            : [channel % half, channel < half];
          const partner = x[r * inputs + column + (isFirst ? 1 : -1) * (hand.neighbours ? 1 : half)]!;
          const [cos, sin] = turn(angle(position, pair)).map((factor) =>
            stored(factor * a.attentionFactor, rounding?.settings.table),
          ) as [number, number];
          const products = [value * cos, partner * (isFirst ? -sin : sin)].map((product) =>
            stored(product, rounding?.settings.products),
          ) as [number, number];
          out.value[r * columns.length + c] = products[0] + products[1];
        });
      });
      return out;
    },
  };
}
