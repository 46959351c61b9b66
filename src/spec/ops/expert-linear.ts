import { rowsOfQuantised } from "../../tensor/quantised-parameter.js";
import { type ExpertWeights, expertBias, expertRows } from "../expert-weights.js";
import { type Block, emptyBlock, type MutableBlock, type Op, type OpContext, usableVariance } from "../op.js";
import type { Recipe } from "../recipe.js";
import { linear } from "./linear.js";
import type { QuantisedProduct } from "./linear-recipes.js";

export interface ExpertLinearAttributes extends ExpertWeights {
  readonly topK: number;
  /** Output columns of one expert. */
  readonly width: number;
  /** Whether each slot of a row has an input of its own, [rows, topK × inputs], or all share the row's. */
  readonly ownInputs: boolean;
  /** Expert whose matrix a chosen expert's rows meet; itself unless a rewrite says otherwise. */
  readonly expertOf?: (expert: number) => number;
  /** Where the weights are kept in a narrow format: which roundings that makes legal. Tiles of operands lie within a row. */
  readonly weightFormat?: QuantisedProduct | undefined;
}

const weight = "weight";
const bias = "bias";

/**
 * A product with the matrix of each chosen expert: inputs x and indices [rows, topK], output [rows, topK × width], one slot
 * after the other. Only the matrices of chosen experts are read. Rounds as `linear`: a grouped product is one per expert.
 */
export function expertLinear(attributes: ExpertLinearAttributes): Op {
  const { weightFormat } = attributes;
  const product = linear({ weight, bias: attributes.bias === undefined ? undefined : bias, weightFormat });
  const { topK, width, ownInputs } = attributes;
  return {
    kind: "expert-linear",
    attributes: { ...attributes },
    recipes: attributes.bias === undefined ? product.recipes : biasAfterFirst(product.recipes!),
    evaluate(context, rows, columns) {
      const x = context.input(0, rows);
      const indices = context.input(1, rows);
      const inputs = ownInputs ? context.width(0) / topK : context.width(0);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      for (const part of slotsOf(columns, width)) {
        for (const [expert, members] of byExpert(indices, rows.length, topK, part.slot)) {
          const starts = members.map((r) => (ownInputs ? (r * topK + part.slot) * inputs : r * inputs));
          const block = gathered(x, starts, inputs);
          const matrix = attributes.expertOf?.(expert) ?? expert;
          // What a rewrite made of a choice may be no expert's number: nothing is multiplied then.
          if (!isExpert(context, attributes, matrix)) continue;
          const made = product.evaluate(
            ofExpert(context, attributes, matrix, part.columns, block, inputs),
            Int32Array.from(members, (r) => rows[r]!),
            Int32Array.from(part.columns.keys()),
          );
          members.forEach((r, m) => {
            scatter(made, m * part.columns.length, part.at, r * columns.length, out);
          });
        }
        if (context.noise) blur(indices, rows.length, topK, part, columns.length, out);
      }
      return out;
    },
  };
}

function isExpert({ parameters }: OpContext, { weight }: ExpertWeights, expert: number): boolean {
  const count = typeof weight === "string" ? (parameters.shape(weight)?.[0] ?? 0) : weight.length;
  return Number.isInteger(expert) && expert >= 0 && expert < count;
}

/** Grouped kernels take no bias: most implementations add it to the rounded product. */
function biasAfterFirst(recipes: readonly Recipe[]): Recipe[] {
  return [...recipes].sort((a, b) => Number(b.settings.biasAfter) - Number(a.settings.biasAfter));
}

/** The columns asked for that lie in one slot: within it, and where they go. */
interface SlotPart {
  readonly slot: number;
  readonly columns: Int32Array;
  readonly at: Int32Array;
}

function slotsOf(columns: Int32Array, width: number): SlotPart[] {
  const parts = new Map<number, { columns: number[]; at: number[] }>();
  columns.forEach((column, c) => {
    const slot = Math.floor(column / width);
    let part = parts.get(slot);
    if (!part) {
      part = { columns: [], at: [] };
      parts.set(slot, part);
    }
    part.columns.push(column % width);
    part.at.push(c);
  });
  return Array.from(parts, ([slot, part]) => ({
    slot,
    columns: Int32Array.from(part.columns),
    at: Int32Array.from(part.at),
  }));
}

/** Rows, by their place among those asked for, of each expert that a slot holds. */
function byExpert(indices: Block, count: number, topK: number, slot: number): Map<number, number[]> {
  const groups = new Map<number, number[]>();
  for (let r = 0; r < count; r++) {
    const expert = indices.value[r * topK + slot]!;
    const group = groups.get(expert);
    if (group) group.push(r);
    else groups.set(expert, [r]);
  }
  return groups;
}

/** `length` elements from each start on, one row after the other. */
function gathered(block: Block, starts: readonly number[], length: number): Block {
  const take = <T extends Float64Array | Uint8Array>(from: T, to: T): T => {
    starts.forEach((start, i) => {
      to.set(from.subarray(start, start + length), i * length);
    });
    return to;
  };
  const size = starts.length * length;
  return {
    value: take(block.value, new Float64Array(size)),
    variance: block.variance.length > 0 ? take(block.variance, new Float64Array(size)) : block.variance,
    jump: block.jump && take(block.jump, new Float64Array(size)),
    range: block.range && take(block.range, new Uint8Array(size)),
  };
}

/** The context of the product of one expert: its rows for input, its matrix for parameters. */
function ofExpert(
  context: OpContext,
  weights: ExpertWeights,
  expert: number,
  columns: Int32Array,
  block: Block,
  inputs: number,
): OpContext {
  const { parameters } = context;
  const { first = 0, step = 1 } = weights;
  const rows = expertRows(parameters, weights, expert, columns, inputs);
  const own = typeof weights.weight === "string" ? undefined : parameters.quantised?.(weights.weight[expert]!);
  const biases = expertBias(context.parameters, weights, expert, columns);
  return {
    ...context,
    parameters: {
      names: () => [weight, bias],
      quantised: () =>
        own &&
        rowsOfQuantised(
          own,
          columns.map((c) => first + step * c),
        ),
      shape: (name) => (name === weight ? [columns.length, inputs] : [columns.length]),
      rows: (name, from, count) => (name === weight ? rows.subarray(from * inputs, (from + count) * inputs) : biases!),
    },
    input: () => block,
    width: () => inputs,
  };
}

function scatter(from: Block, start: number, at: Int32Array, to: number, out: MutableBlock): void {
  at.forEach((c, i) => {
    out.value[to + c] = from.value[start + i]!;
    if (from.variance.length > 0) out.variance[to + c] = from.variance[start + i]!;
    if (from.jump) {
      out.jump ??= new Float64Array(out.value.length);
      out.jump[to + c] = from.jump[start + i]!;
    }
    if (from.range) {
      out.range ??= new Uint8Array(out.value.length);
      out.range[to + c] = from.range[start + i]!;
    }
  });
}

/** Of a choice that is open, nobody can say what its products are. */
function blur(indices: Block, count: number, topK: number, part: SlotPart, width: number, out: MutableBlock): void {
  for (let r = 0; r < count; r++) {
    if (usableVariance(indices, r * topK + part.slot) !== Infinity) continue;
    for (const c of part.at) out.variance[r * width + c] = Infinity;
  }
}
