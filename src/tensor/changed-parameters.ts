import type { ParameterReader } from "./checkpoint.js";

/** A parameter as a runtime holds it: values [rows, columns], row-major. */
export interface ChangedParameter {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** A checkpoint with some parameters changed or added. */
export function overlayParameters(
  base: ParameterReader,
  changed: ReadonlyMap<string, ChangedParameter>,
): ParameterReader {
  return {
    shape: (name) => changed.get(name)?.shape ?? base.shape(name),
    names: () => new Set([...base.names(), ...changed.keys()]),
    quantised: (name) => (changed.has(name) ? undefined : base.quantised?.(name)),
    rows(name, first, count) {
      const parameter = changed.get(name);
      if (!parameter) return base.rows(name, first, count);
      const width = parameter.shape.at(-1)!;
      return parameter.values.subarray(first * width, (first + count) * width);
    },
  };
}
