import type { ChangedParameter } from "../tensor/changed-parameters.js";
import type { ParameterReader } from "../tensor/checkpoint.js";

/** All values of a parameter, as a copy. */
export function wholeParameter(parameters: ParameterReader, name: string): ChangedParameter {
  const shape = parameters.shape(name);
  if (!shape) throw new Error(`the checkpoint has no parameter "${name}"`);
  return { shape, values: parameters.rows(name, 0, shape.length < 2 ? 1 : shape[0]!).slice() };
}

/** `name` with every value passed through `change`. */
export function changedParameter(
  parameters: ParameterReader,
  name: string,
  change: (value: number, row: number, column: number) => number,
): Map<string, ChangedParameter> {
  const { shape, values } = wholeParameter(parameters, name);
  const width = shape.at(-1)!;
  for (let i = 0; i < values.length; i++) values[i] = change(values[i]!, Math.floor(i / width), i % width);
  return new Map([[name, { shape, values }]]);
}

/** The weights, and the biases if there are any, of two products of one shape, each with the other's values. */
export function exchangedParameters(
  parameters: ParameterReader,
  one: string,
  other: string,
): Map<string, ChangedParameter> {
  const kinds = ["weight", "bias"].filter((kind) => parameters.shape(`${one}.${kind}`) !== undefined);
  return new Map(
    kinds.flatMap((kind) => [
      [`${one}.${kind}`, wholeParameter(parameters, `${other}.${kind}`)] as const,
      [`${other}.${kind}`, wholeParameter(parameters, `${one}.${kind}`)] as const,
    ]),
  );
}
