import type { ModelConfig } from "../../spec/models/config.js";
import { indices } from "../../spec/op.js";
import { InputError } from "../../tensor/errors.js";

/** The layers that `*`, a number or a range such as 0-3 means. @throws InputError when the model has none of them. */
export function layersOf({ layerCount }: ModelConfig, pattern: string): number[] {
  if (pattern === "*") return Array.from(indices(layerCount));
  const found = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(pattern);
  const first = Number(found?.[1]);
  const last = Number(found?.[2] ?? found?.[1]);
  if (!found || first > last || last >= layerCount)
    throw new InputError(
      `layers "${pattern.slice(0, 60)}": expected *, a number or a range such as 0-3, from 0 to ${layerCount - 1}`,
    );
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
