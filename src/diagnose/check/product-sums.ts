import { rowsByRecipe } from "../../spec/by-phase.js";
import type { GraphNode } from "../../spec/graph.js";
import { operandFormat } from "../../spec/narrow-operands.js";
import { indices, type OpRounding } from "../../spec/op.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import type { OperandQuantisation } from "../../spec/ops/linear-recipes.js";
import { weightRows } from "../../spec/ops/linear-weights.js";
import { quantised } from "../../spec/ops/quantised.js";
import { type Terms, withinPart } from "../../spec/ops/terms.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import { blockResiduals, rootMeanSquare } from "../../tensor/block-residuals.js";
import { BlockSums } from "../../tensor/block-sums.js";
import type { ParameterReader, StoredParameter } from "../../tensor/checkpoint.js";
import { type DType, type FloatFormat, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { mostPlaced } from "../../tensor/element-memory.js";
import { randomSigns } from "../../tensor/random-signs.js";
import { roundToFormat } from "../../tensor/rounding.js";
import { floats } from "../../tensor/scratch.js";
import { seedOf } from "../bits/sample.js";
import type { Investigation } from "./investigation.js";
import type { UnitCheck } from "./unit-check.js";

/** Residuals of a product over blocks of its output columns, each with random signs: [rows, blocks]. */
export interface ResidualSums {
  readonly rows: Int32Array;
  readonly blocks: number;
  /** Output columns per block. */
  readonly width: number;
  /** Residuals in units of what the stores of a correct product scatter by, up to a factor common to all. */
  readonly z: Float64Array;
}

/** Columns per block for up to `rowsOfNarrowest` rows: 8 stores together scatter by an ulp, and 10 ulps stand out. */
const narrowest = 8;
/** More rows share the cost: of 4,096 rows a wrong one is seen in blocks of 512 columns as well. */
const rowsOfNarrowest = 64;
/** Elements of X that are held at a time; the weights are read once for every so many. */
const operandElements = 2 ** 23;
/** Digits of a record up to which float32 sums beside it scatter by nothing that shows. */
const mostSingleBits = 10;
/** Float32 sums scatter by less than this share of a row's size. */
const summation = 2 ** -20;

let kernels: BlockSums | undefined;

/**
 * Σ s_c (y_rc − b_c) − x_r·(Σ s_c w_c) over the columns c of each block: near 0 where the product is right, at the cost of
 * one pass over the weights. Freivalds, "Probabilistic machines can use less running time", 1977.
 * @returns undefined where the product's operands are not at hand.
 */
export function residualSums(investigation: Investigation, { node, recipe }: UnitCheck): ResidualSums | undefined {
  if (!recipe) return undefined;
  const { observations } = investigation;
  const rows = observations.outputRows(node.name);
  const width = Math.min(mostPlaced, narrowest * Math.max(1, Math.ceil(rows.length / rowsOfNarrowest)));
  const parts: ResidualSums[] = [];
  for (const [own, places] of rowsByRecipe(recipe, observations.rows, rows)) {
    const taken = Int32Array.from(places, (i) => rows[i]!);
    const sums = sumsUnder(investigation, { node, recipe: own, rows: taken, width });
    if (!sums) return undefined;
    parts.push(sums);
  }
  if (parts.length < 2) return parts[0];
  const z = new Float64Array(rows.length * parts[0]!.blocks);
  let at = 0;
  for (const part of parts) {
    z.set(part.z, at);
    at += part.z.length;
  }
  return { ...parts[0]!, rows: Int32Array.from(parts.flatMap((part) => [...part.rows])), z };
}

interface Rows {
  readonly node: GraphNode;
  readonly recipe: UnitRecipe;
  readonly rows: Int32Array;
  readonly width: number;
}

/** The sums of rows that round by one recipe. */
function sumsUnder(investigation: Investigation, { node, recipe, rows, width }: Rows): ResidualSums | undefined {
  const { observations, parameters } = investigation;
  const { attributes, operand, terms: summed } = productOf(investigation, node);
  const { weight, bias, terms, weightFormat: product } = attributes;
  const format = floatFormat(observations.dtype(node.name)!);
  const inside = investigation
    .interior(node.name)
    .slice(1)
    .filter(({ name }) => !summed.includes(name));
  if (!format || (terms && terms.w !== terms.x)) return undefined;
  if (inside.some(({ op }) => op.kind === "linear" || op.kind === "attention")) return undefined;
  const reader = investigation.graph.node(summed[0] ?? node.name);
  const settings = settingsOf(recipe, reader);
  const inputs = investigation.graph.node(operand).columns;
  const stored = storedWeight(parameters, weight, { store: recipe.store, settings }, product?.mergedScale);
  if (!stored) return undefined;
  const { columns } = node;
  const blocks = Math.ceil(columns / width);
  const signs = randomSigns(seedOf(node.name), columns);
  // Parts of the sum that are stored on their way scatter like numbers of the row's size.
  const coarse =
    summed.length > 0 || settings.biasAfter === true || Number(settings.parts ?? 1) > 1 || format.fractionBits > 16;
  const add = rowAdder({ signs, width, format, biases: bias ? parameters.rows(bias, 0, 1) : undefined, coarse });
  const z = floats(rows.length * blocks);
  const narrowed = operandFormat(settings);
  const narrow = product?.operands[Number(settings.operand ?? -1)];
  // Each rank quantises its own part of the operand.
  const parts = terms ? [terms] : summed.map((name) => termsOf(investigation.graph.node(name)) ?? whole(inputs));
  const readOperand = operandReader(
    investigation,
    { node, reader, operand, recipe },
    narrow && { ...narrow, fake: settings.fake === true, parts: parts.length > 0 ? parts : [whole(inputs)] },
  );
  const perPass = Math.max(1, Math.floor(operandElements / inputs));
  kernels ??= new BlockSums();
  const y = floats(columns);
  for (let first = 0; first < rows.length; first += perPass) {
    const taken = rows.subarray(first, first + perPass);
    const x = readOperand(taken);
    if (narrowed) roundToFormat(x, narrowed);
    if (terms) clearOthers(x, inputs, terms);
    const roundedTo = narrowed ? (settings.narrow as "tf32" | DType) : stored.heldAs;
    const products = kernels.products({
      weights: stored,
      format: { dtype: stored.dtype, roundedTo },
      x,
      rows: taken.length,
      inputs,
      columns,
      width,
      signs,
      single: format.fractionBits <= mostSingleBits,
    });
    for (let r = 0; r < taken.length; r++) {
      if (!observations.blockInto(y, node.name, taken.subarray(r, r + 1))) return undefined;
      const expected = products.subarray(r * blocks, (r + 1) * blocks);
      add(y, expected, z.subarray((first + r) * blocks, (first + r + 1) * blocks));
    }
  }
  return { rows, blocks, width, z };
}

function settingsOf(recipe: UnitRecipe, node: GraphNode): OpRounding["settings"] {
  return (recipe.ops.get(roleOf(node)) ?? node.op.recipes?.[0])?.settings ?? {};
}

function termsOf({ op }: GraphNode): Terms | undefined {
  return (op.attributes as Partial<LinearAttributes>).terms;
}

const whole = (inputs: number): Terms => ({ x: 0, w: 0, count: inputs });

/** Zeros in place of the inputs that a product does not sum over. */
function clearOthers(x: Float64Array, inputs: number, { x: first, count }: Terms): void {
  for (let start = 0; start < x.length; start += inputs) {
    x.fill(0, start, start + first);
    x.fill(0, start + first + count, start + inputs);
  }
}

/** The product that a node is, or that its unrecorded terms make together. */
function productOf({ graph, observations }: Investigation, node: GraphNode) {
  const attributes = node.op.attributes as unknown as LinearAttributes;
  const whole = { attributes, operand: node.inputs[0]!, terms: [] as readonly string[] };
  const [first] = node.inputs.map((name) => graph.node(name));
  if (node.op.kind !== "all-reduce" || !first || node.inputs.some((name) => observations.has(name))) return whole;
  const term = first.op.attributes as unknown as LinearAttributes;
  const summed = { ...term, terms: undefined, bias: attributes.bias ?? term.bias };
  return { attributes: summed, operand: first.inputs[0]!, terms: node.inputs };
}

/** A weight's bytes as they are stored; where that says nothing by itself, its numbers in float64. */
function storedWeight(
  parameters: ParameterReader,
  weight: string,
  rounding: OpRounding,
  mergedScale: number | undefined,
): (StoredParameter & { readonly heldAs?: DType | undefined }) | undefined {
  const stored = parameters.stored?.(weight);
  if (stored) return { ...stored, heldAs: parameters.dtype?.(weight) };
  const inputs = parameters.quantised?.(weight)?.shape[1];
  if (inputs === undefined) return undefined;
  return {
    dtype: "float64",
    readInto(target, first) {
      const { buffer, byteOffset, byteLength } = weightRows(
        parameters,
        weight,
        first,
        target.byteLength / (8 * inputs),
        rounding,
        mergedScale,
      );
      target.set(new Uint8Array(buffer, byteOffset, byteLength));
    },
  };
}

/** Rows of a product's operand as `reader` multiplies it: as it was recorded, or in narrow numbers. */
function operandReader(
  { graph, evaluator }: Investigation,
  read: { node: GraphNode; reader: GraphNode; operand: string; recipe: UnitRecipe },
  narrow: NarrowOperand | undefined,
): (rows: Int32Array) => Float64Array {
  const { node, reader, operand, recipe } = read;
  const input = graph.node(operand);
  if (!narrow) {
    const quiet = evaluator.under(recipe, node, false);
    const columns = indices(input.columns);
    return (rows) => quiet.read(input.name, rows, reader.name, columns).value;
  }
  const op = quantised({ ...narrow.quantisation, arithmetic: narrow.fake ? recipe.store : undefined });
  const pieces = narrow.parts.map(({ x: first, count }, i): { piece: GraphNode; columns: Int32Array } => ({
    piece: { ...input, name: `${node.name} operand ${i}`, op: withinPart(op, { first, count }), inputs: [input.name] },
    columns: indices(count).map((column) => first + column),
  }));
  const quiet = evaluator.rewritten(pieces.map(({ piece }) => piece)).under(recipe, node, false);
  return (rows) => {
    const out = new Float64Array(rows.length * input.columns);
    for (const { piece, columns } of pieces) {
      const { value } = quiet.evaluate(piece.name, rows, columns);
      for (let r = 0; r < rows.length; r++)
        out.set(value.subarray(r * columns.length, (r + 1) * columns.length), r * input.columns + columns[0]!);
    }
    return out;
  };
}

/** How an operand is quantised, and the parts of it that are quantised each by itself. */
interface NarrowOperand extends OperandQuantisation {
  readonly fake: boolean;
  readonly parts: readonly Terms[];
}

interface Product {
  readonly signs: Int8Array;
  readonly width: number;
  readonly format: FloatFormat;
  readonly biases: Float64Array | undefined;
  readonly coarse: boolean;
}

/** Writes the z of one row: a store is off by up to half an ulp, evenly spread. */
function rowAdder({ signs, width, format, biases, coarse }: Product) {
  return (y: Float64Array, expected: Float64Array, z: Float64Array): void => {
    const size = rootMeanSquare(y);
    const least = (coarse ? unitInLastPlace(size, format) : size * summation) ** 2;
    blockResiduals(y, { signs, width, biases }, expected, format, least, z);
  };
}
