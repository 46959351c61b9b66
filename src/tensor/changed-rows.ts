import type { ParameterReader } from "./checkpoint.js";

/** Rows of one parameter as they are, by the first and their number. */
export type ReadRows = (first: number, count: number) => Float64Array;

/**
 * The same parameters with the rows of one of them changed, however a reader has them rounded.
 * @param change the changed rows, from the right ones.
 */
export function withChangedRows(
  parameters: ParameterReader,
  changed: string,
  change: (read: ReadRows, first: number, count: number) => Float64Array,
): ParameterReader {
  const quantised = parameters.quantised?.(changed);
  return {
    shape: (name) => parameters.shape(name),
    names: () => parameters.names(),
    dtype: (name) => parameters.dtype?.(name),
    quantised: (name) =>
      name === changed && quantised
        ? {
            shape: quantised.shape,
            dtype: quantised.dtype,
            operands: quantised.operands,
            misreadings: [],
            misread: () => quantised,
            rows: (first, count, rounding) => change((from, n) => quantised.rows(from, n, rounding), first, count),
          }
        : parameters.quantised?.(name),
    rows: (name, first, count) =>
      name === changed
        ? change((from, n) => parameters.rows(name, from, n), first, count)
        : parameters.rows(name, first, count),
  };
}
