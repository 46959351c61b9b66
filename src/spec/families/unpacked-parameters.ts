import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { Part } from "../graph.js";
import type { DeclaredParameter } from "./declaration.js";

/**
 * A checkpoint whose larger parameters are read part by part: those that a family declares as rows of another parameter
 * come under their own names, and the larger ones are not named.
 */
export function unpackedParameters(declared: readonly DeclaredParameter[], packed: ParameterReader): ParameterReader {
  const parts = new Map<string, { shape: readonly number[]; part: Part }>();
  for (const { name, shape, part } of declared) if (part && packed.shape(part.name)) parts.set(name, { shape, part });
  if (parts.size === 0) return packed;
  const wholes = new Set(Array.from(parts.values(), ({ part }) => part.name));
  const at = (name: string) => parts.get(name)?.part;
  return {
    names: () => [...[...packed.names()].filter((name) => !wholes.has(name)), ...parts.keys()],
    shape: (name) => parts.get(name)?.shape ?? packed.shape(name),
    dtype: (name) => packed.dtype?.(at(name)?.name ?? name),
    stored(name) {
      const part = at(name);
      const whole = packed.stored?.(part?.name ?? name);
      return part && whole
        ? { dtype: whole.dtype, readInto: (target, first) => whole.readInto(target, part.first + first) }
        : whole;
    },
    rows(name, first, count) {
      const own = parts.get(name);
      if (!own) return packed.rows(name, first, count);
      const { part, shape } = own;
      // A vector is one row: its part lies inside it.
      if (shape.length < 2) return packed.rows(part.name, 0, 1).subarray(part.first, part.first + shape[0]!);
      return packed.rows(part.name, part.first + first, count);
    },
  };
}
