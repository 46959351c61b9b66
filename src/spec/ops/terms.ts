import type { ParameterReader } from "../../tensor/checkpoint.js";
import { columnsOfQuantised, columnsOfRows } from "../../tensor/quantised-parameter.js";
import { indices, type Op } from "../op.js";

/** A stretch of a product's inputs: of x from `x` on, with the columns of the weight from `w` on. */
export interface Terms {
  readonly x: number;
  /** The same as `x` unless a rewrite says otherwise. */
  readonly w: number;
  readonly count: number;
}

/**
 * An op over some of its inputs: what one rank adds to the sum over all. It sees no others: an operand that is quantised on
 * the fly has scales of the rank's own part.
 */
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

/** An op on a stretch of columns as a rank has it that holds no others; asked for columns of that stretch alone. */
export function withinPart(op: Op, { first, count }: { readonly first: number; readonly count: number }): Op {
  const own = overTerms(op, { x: first, w: first, count });
  return {
    ...op,
    evaluate: (context, rows, columns) =>
      own.evaluate(
        context,
        rows,
        columns.map((column) => column - first),
      ),
  };
}

/**
 * Weights [rows, width] cut to `count` columns from `first` on, those in narrow numbers however they are rounded; parameters
 * of any other shape as they are.
 */
function columnsOf(parameters: ParameterReader, width: number, first: number, count: number): ParameterReader {
  const isWeight = (shape: readonly number[] | undefined) => shape?.length === 2 && shape[1] === width;
  return {
    shape: (name) => parameters.shape(name),
    names: () => parameters.names(),
    dtype: (name) => parameters.dtype?.(name),
    quantised(name) {
      const whole = parameters.quantised?.(name);
      return whole && isWeight(whole.shape) ? columnsOfQuantised(whole, first, count) : whole;
    },
    rows(name, firstRow, rowCount) {
      const values = parameters.rows(name, firstRow, rowCount);
      return isWeight(parameters.shape(name)) ? columnsOfRows(values, width, first, count) : values;
    },
  };
}
