import type { ParameterReader } from "./checkpoint.js";
import { type DType, floatFormat } from "./dtype.js";
import { roundAll } from "./rounding.js";

/**
 * Parameters as a runtime holds them that stores in `dtype`: those which the checkpoint has in a type with other numbers
 * are rounded on loading.
 */
export function heldAs(parameters: ParameterReader, dtype: DType): ParameterReader {
  const held = floatFormat(dtype);
  if (!held || !parameters.dtype) return parameters;
  const copies = new WeakMap<Float64Array, Float64Array>();
  const isRounded = (name: string) => {
    const own = floatFormat(parameters.dtype!(name) ?? dtype);
    return own !== undefined && (own.fractionBits > held.fractionBits || own.minExponent < held.minExponent);
  };
  return {
    shape: (name) => parameters.shape(name),
    names: () => parameters.names(),
    asStored: parameters.asStored ?? parameters,
    dtype: () => dtype,
    stored: (name) => parameters.stored?.(name),
    quantised: (name) => parameters.quantised?.(name),
    ...(parameters.elements && {
      elements(name: string, first: number, count: number) {
        const values = parameters.elements!(name, first, count);
        if (!isRounded(name)) return values;
        const rounded = values.slice();
        roundAll(rounded, dtype);
        return rounded;
      },
    }),
    rows(name, first, count) {
      const values = parameters.rows(name, first, count);
      if (!isRounded(name)) return values;
      let copy = copies.get(values);
      if (!copy) {
        copy = values.slice();
        roundAll(copy, dtype);
        copies.set(values, copy);
      }
      return copy;
    },
  };
}
