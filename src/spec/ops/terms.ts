import type { ParameterReader } from "../../tensor/checkpoint.js";
import { indices, type Op } from "../op.js";

/** A stretch of a product's inputs: of x from `x` on, with the columns of the weight from `w` on. */
export interface Terms {
  readonly x: number;
  /** The same as `x` unless a rewrite says otherwise. */
  readonly w: number;
  readonly count: number;
}

/** A product over some of its terms: what one rank adds to the sum over all. */
export function overTerms(product: Op, { x, w, count }: Terms): Op {
  const inputs = indices(count).map((i) => x + i);
  return {
    ...product,
    evaluate(context, rows, columns) {
      const width = context.width(0);
      return product.evaluate(
        {
          ...context,
          parameters: columnsOf(context.parameters, width, w, count),
          input: (index, wanted, _, readAt) => context.input(index, wanted, inputs, readAt),
          width: () => count,
        },
        rows,
        columns,
      );
    },
  };
}

/** Weights [rows, width] cut to `count` columns from `first` on; parameters of any other shape as they are. */
function columnsOf(parameters: ParameterReader, width: number, first: number, count: number): ParameterReader {
  return {
    shape: (name) => parameters.shape(name),
    names: () => parameters.names(),
    rows(name, firstRow, rowCount) {
      const values = parameters.rows(name, firstRow, rowCount);
      const shape = parameters.shape(name);
      if (shape?.length !== 2 || shape[1] !== width) return values;
      const out = new Float64Array(rowCount * count);
      for (let r = 0; r < rowCount; r++)
        out.set(values.subarray(r * width + first, r * width + first + count), r * count);
      return out;
    },
  };
}
