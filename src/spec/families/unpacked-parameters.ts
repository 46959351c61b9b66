import type { Checkpoint, ParameterReader } from "../../tensor/checkpoint.js";
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

/** The bytes of a checkpoint, where it lies. */
export type ParameterBytes = Pick<Checkpoint, "directory" | "entry" | "bytes">;

/** The same of a checkpoint's bytes: parts have entries of their own, and their rows are those of the whole. */
export function unpackedBytes(declared: readonly DeclaredParameter[], packed: ParameterBytes): ParameterBytes {
  const parts = new Map(declared.flatMap(({ name, shape, part }) => (part ? [[name, { shape, part }] as const] : [])));
  if (parts.size === 0) return packed;
  return {
    directory: packed.directory,
    entry(name) {
      const own = parts.get(name);
      const whole = own && packed.entry(own.part.name);
      return own ? whole && { ...whole, shape: [...own.shape] } : packed.entry(name);
    },
    bytes(name, first = 0, count = Infinity) {
      const own = parts.get(name);
      if (!own) return Number.isFinite(count) ? packed.bytes(name, first, count) : packed.bytes(name, first);
      const { part, shape } = own;
      if (shape.length > 1) return packed.bytes(part.name, part.first + first, Math.min(count, shape[0]! - first));
      const all = packed.bytes(part.name);
      const width = all.byteLength / part.of;
      return all.slice(part.first * width, (part.first + shape[0]!) * width);
    },
  };
}
