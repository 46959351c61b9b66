import type { Part } from "../graph.js";
import type { ModelConfig } from "../models/config.js";
import { linear } from "../ops/linear.js";
import { rmsNorm } from "../ops/rmsnorm.js";
import type { Placed } from "../site.js";
import type { Declaration, Size } from "./declaration.js";

/** An RMSNorm over groups of `width` channels, and its weight: its name. */
export function norm(
  declaration: Declaration,
  { rmsNormEpsilon: epsilon, normOffset }: ModelConfig,
  placed: Placed,
  input: string,
  size: Size,
  width: number,
): string {
  const weight = declaration.parameter(`${placed.name}.weight`, size.heads ? "head-norm" : "norm", [width], placed);
  const offset = normOffset === 0 ? {} : { weightOffset: normOffset };
  return declaration.value(placed, rmsNorm({ weight, epsilon, width, ...offset }), [input], size);
}

/** What a projection multiplies: its name, its columns, and whether it has a bias. */
export interface Projection {
  readonly input: string;
  readonly inputs: number;
  readonly bias: boolean;
  /** Where checkpoint and modules keep it together with others, by the name of what they share. */
  readonly part?: Part | undefined;
}

/** y = x Wᵀ + b, its weight [columns, inputs] and bias [columns]: its name. */
export function projection(declaration: Declaration, placed: Placed, size: Size, from: Projection): string {
  const { part, inputs } = from;
  const within = (kind: string) => part && { ...part, name: `${part.name}.${kind}` };
  const { site } = placed;
  const parameter = (kind: "weight" | "bias", shape: readonly number[]) =>
    declaration.parameter(`${placed.name}.${kind}`, "projection", shape, {
      site,
      part: within(kind),
      isBias: kind === "bias",
    });
  const weight = parameter("weight", [size.columns, inputs]);
  const bias = from.bias ? parameter("bias", [size.columns]) : undefined;
  return declaration.value(placed, linear({ weight, bias }), [from.input], size, part);
}

/** Parts that lie one behind the other in the whole `name`, with so many rows each. */
export function sideBySide(name: string, sizes: readonly number[]): Part[] {
  const of = sizes.reduce((sum, size) => sum + size, 0);
  let first = 0;
  return sizes.map((size) => {
    const part = { name, first, of };
    first += size;
    return part;
  });
}
