import type { ProjectStep } from "../program/step.js";
import type { Weights } from "./weights.js";

/** What a product multiplies with and adds, as it lies on the device. */
export function productOperands({ label, gated = false, weights: names, biases, norm }: ProjectStep, weights: Weights) {
  const parts = names.map((name) => weights.matrix(name));
  const { matrix, firstRow } = parts[0]!;
  const rows = parts.reduce((sum, { rowCount }) => sum + rowCount, 0);
  const bias = biases.length > 0 ? weights.vector(biases[0]!) : undefined;
  if (bias && bias.offset !== firstRow) throw new Error(`${label}: the bias does not lie as its weight does`);
  const gain = norm && weights.vector(norm.weight);
  if (gain?.offset) throw new Error(`${label}: the gain shares its memory`);
  return { matrix, firstRow, outputs: gated ? rows / 2 : rows, bias, gain };
}
