import { floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import { computeVariance, storeVariance } from "../noise.js";
import {
  type Block,
  emptyBlock,
  type MutableBlock,
  type Op,
  type OpContext,
  raiseJump,
  scaled,
  storedVariance,
  usableVariance,
} from "../op.js";
import type { Recipe } from "../recipe.js";
import type { RowTable } from "../rows.js";
import type { RopeAttributes } from "./rope-attributes.js";
import { partnerOf, type Turns, turnsOf } from "./rope-turns.js";

/** Where RoPE rounds: `table` stores cos and sin, `products` each of the two products; `angle` is how angles are computed. */
export const ropeRecipes: readonly Recipe[] = [
  {
    id: "rounded-table-and-products",
    title: "cos and sin are rounded, both products and their sum",
    known: ["Hugging Face", "vLLM's native rotary embedding"],
    settings: { table: true, products: true, angle: "float32" },
  },
  {
    id: "float32",
    title: "float32 throughout, one rounding",
    known: ["FlashInfer", "Faultline's kernels"],
    settings: { table: false, products: false, angle: "float32" },
  },
  {
    id: "rounded-table",
    title: "cos and sin are rounded, the rotation in float32, one rounding",
    known: ["kernels with a 16-bit cos/sin cache"],
    settings: { table: true, products: false, angle: "float32" },
  },
  {
    id: "tf32-angles",
    title: "angles from a TF32 product",
    known: ["Hugging Face with TF32 allowed"],
    settings: { table: false, products: false, angle: "tf32" },
  },
];

/**
 * Rotates channel pairs of every head by position × inverse frequency.
 * Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
 */
export function rope(attributes: RopeAttributes): Op {
  return {
    kind: "rope",
    attributes: { ...attributes },
    recipes: ropeRecipes,
    evaluate(context, rows, columns) {
      const { input, width, rows: table, noise, rounding } = context;
      const inputColumns = width(0);
      const x = input(0, rows);
      const out = emptyBlock(rows.length * columns.length, noise);
      const turnsAt = turnsOf(attributes, context);
      const places = placesOf(columns, attributes);
      const size = columns.length;
      const products = new Float64Array(2 * size);
      for (let r = 0; r < rows.length; r++) {
        const derived = table.rotaryPosition(rows[r]!);
        const position = attributes.positionOf ? attributes.positionOf(rows[r]!, derived) : derived;
        const long = attributes.beyond !== undefined && isLong(table, rows[r]!, attributes.beyond.positions);
        const turns = turnsAt(position, long);
        const from = r * inputColumns;
        multiply(x.value, from, columns, places, turns, products);
        if (noise) {
          for (let c = 0; c < size; c++) {
            const own = from + columns[c]!;
            if (places.channels[c]! < 0) out.variance[r * size + c] = usableVariance(x, own);
            else
              elementNoise(context, x, own, from + places.partners[c]!, turns, places.channels[c]!, out, r * size + c);
          }
        }
        if (rounding?.settings.products) roundAll(products, rounding.store);
        addHalves(products, out.value, r * size);
      }
      return out;
    },
  };
}

/** Whether the step of a row holds a position beyond `positions`. */
function isLong(table: RowTable, row: number, positions: number): boolean {
  const step = table.steps[table.stepOf[row]!]!;
  for (let i = 0; i < step.rowCount; i++) if (table.rotaryPosition(step.firstRow + i) >= positions) return true;
  return false;
}

/** Of each column asked for: its channel within its head, -1 where it does not rotate, and its partner's column if it does. */
interface Places {
  readonly channels: Int32Array;
  readonly partners: Int32Array;
}

function placesOf(columns: Int32Array, { headDim, rotaryDim, pairing }: RopeAttributes): Places {
  const channels = new Int32Array(columns.length);
  const partners = new Int32Array(columns.length);
  for (let c = 0; c < columns.length; c++) {
    const column = columns[c]!;
    const channel = column % headDim;
    channels[c] = channel < rotaryDim ? channel : -1;
    partners[c] = column - channel + partnerOf(channel, rotaryDim / 2, pairing);
  }
  return { channels, partners };
}

/** x·cos of every column of a row, then x'·sin of every column: a channel that does not rotate is itself, and zero. */
function multiply(
  x: Float64Array,
  from: number,
  columns: Int32Array,
  { channels, partners }: Places,
  { cos, sin }: Turns,
  products: Float64Array,
): void {
  const size = columns.length;
  for (let c = 0; c < size; c++) {
    const value = x[from + columns[c]!]!;
    const channel = channels[c]!;
    products[c] = channel < 0 ? value : value * cos[channel]!;
    products[size + c] = channel < 0 ? 0 : x[from + partners[c]!]! * sin[channel]!;
  }
}

/** The sums of both products of every column of a row. */
function addHalves(products: Float64Array, out: Float64Array, to: number): void {
  const size = products.length / 2;
  for (let c = 0; c < size; c++) out[to + c] = products[c]! + products[size + c]!;
}

/** Of x·cos + x'·sin: both operands, both coefficients, and the two products where they are stored. */
function elementNoise(
  { precision, rounding }: OpContext,
  x: Block,
  own: number,
  partner: number,
  turns: Turns,
  channel: number,
  out: MutableBlock,
  at: number,
): void {
  const format = floatFormat(rounding?.store ?? precision.store);
  let variance = 0;
  for (const [i, coefficients, spreads] of [
    [own, turns.cos, turns.cosVariance],
    [partner, turns.sin, turns.sinVariance],
  ] as const) {
    const value = x.value[i]!;
    const factor = coefficients[channel]!;
    const spread = spreads[channel]!;
    const product = value * factor;
    let ofProduct =
      scaled(factor * factor, usableVariance(x, i)) +
      scaled(value * value, spread) +
      product * product * computeVariance;
    if (x.jump) raiseJump(out, at, Math.abs(factor) * x.jump[i]!);
    if (rounding?.settings.table && spread > 0 && format)
      raiseJump(out, at, Math.abs(value) * unitInLastPlace(factor, format));
    if (!rounding) ofProduct += storeVariance(product, precision.store);
    else if (rounding.settings.products) {
      ofProduct = storedVariance(out, at, product, ofProduct, rounding.store);
    }
    variance += ofProduct;
  }
  out.variance[at] = variance;
}
