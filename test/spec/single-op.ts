import { randomGenerator } from "../../src/diagnose/bits/sample.js";
import type { Arithmetic } from "../../src/spec/arithmetic.js";
import { Evaluator, type Observations } from "../../src/spec/evaluator.js";
import { Graph, type GraphNode } from "../../src/spec/graph.js";
import type { Precision } from "../../src/spec/noise.js";
import { type Block, indices, type Op } from "../../src/spec/op.js";
import type { UnitRecipe } from "../../src/spec/recipe.js";
import { RowTable } from "../../src/spec/rows.js";
import { outsideLayers } from "../../src/spec/site.js";
import type { ParameterReader } from "../../src/tensor/checkpoint.js";
import type { DType } from "../../src/tensor/dtype.js";

/** Parameters held in memory: [rows, columns] each. */
export function parametersOf(tensors: Record<string, { shape: number[]; values: ArrayLike<number> }>): ParameterReader {
  return {
    names: () => Object.keys(tensors),
    shape: (name) => tensors[name]?.shape,
    rows(name, first, count) {
      const { shape, values } = tensors[name]!;
      const width = shape.length < 2 ? shape[0]! : shape[1]!;
      return Float64Array.from(values).slice(first * width, (first + count) * width);
    },
  };
}

export interface SingleOp {
  readonly op: Op;
  /** Values of each input, [rows, columns]; their dtype says how finely they were recorded. */
  readonly inputs: readonly { readonly columns: number; readonly values: ArrayLike<number> }[];
  readonly columns: number;
  /** Rows per step of one sequence; one step of all rows unless given. */
  readonly steps?: readonly number[];
  readonly parameters?: ParameterReader;
  readonly precision?: Precision;
  readonly arithmetic?: Arithmetic;
  readonly noise?: boolean;
  /** Roundings to emulate. */
  readonly recipe?: UnitRecipe;
  readonly tokens?: readonly number[];
  readonly dtype?: DType;
  /** Whether consumers cannot have seen more digits of the inputs than were recorded. */
  readonly exact?: boolean;
}

/** An evaluator of one op between given inputs and the value "out". */
export function evaluatorOf(single: SingleOp): Evaluator {
  const { op, inputs, columns } = single;
  const width = inputs[0]?.columns ?? 1;
  const count = single.tokens?.length ?? Math.floor((inputs[0]?.values.length ?? 1) / width);
  const rows = new RowTable();
  let done = 0;
  for (const [step, n] of (single.steps ?? [count]).entries()) {
    const tokenIds = Array.from({ length: n }, (_, i) => single.tokens?.[done + i] ?? 0);
    rows.append({ step, seqIds: [1], tokenIds, qoIndptr: [0, n] });
    done += n;
  }
  const names = inputs.map((_, i) => `in${i}`);
  const source: Op = {
    kind: "source",
    attributes: {},
    evaluate: () => ({ value: new Float64Array(0), variance: new Float64Array(0) }),
  };
  const nodes: GraphNode[] = inputs.map((input, i) => ({
    ...outsideLayers(names[i]!, "hidden"),
    op: source,
    inputs: [],
    columns: input.columns,
  }));
  const observations: Observations = {
    has: (name) => name.startsWith("in"),
    row(name, row) {
      const input = inputs[Number(name.slice(2))]!;
      const value = Float64Array.from(input.values).slice(row * input.columns, (row + 1) * input.columns);
      return { value, dtype: single.dtype ?? "float64", exact: single.exact ?? true };
    },
  };
  return new Evaluator({
    graph: new Graph([...nodes, { ...outsideLayers("out", "hidden"), op, inputs: names, columns }]),
    parameters: single.parameters ?? parametersOf({}),
    rows,
    precision: single.precision ?? { store: "float64", compute: "float64" },
    observations,
    noise: single.noise ?? false,
    recipe: single.recipe,
    ...(single.arithmetic ? { arithmetic: single.arithmetic } : {}),
  });
}

/** "out" for all rows, or the columns of some. */
export function evaluateOp(single: SingleOp, rows?: readonly number[], columns?: readonly number[]): Block {
  const evaluator = evaluatorOf(single);
  return evaluator.evaluate(
    "out",
    Int32Array.from(rows ?? indices(evaluator.rows.count)),
    columns ? Int32Array.from(columns) : undefined,
  );
}

/** `count` numbers of a bell-shaped distribution, always the same for a seed. */
export function normal(count: number, seed: number, spread = 1): Float64Array {
  const random = randomGenerator(seed);
  return Float64Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return spread * radius * Math.cos(2 * Math.PI * random());
  });
}
