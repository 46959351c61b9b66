import type { DeviceBuffer } from "../device/backend.js";
import type { ProjectStep } from "../program/step.js";
import { narrowTypeOf } from "./narrow-copies.js";
import type { StepContext } from "./step-context.js";
import type { NarrowType } from "./tensor-blocks.js";

/** Where a step leaves a value of many rows. */
export interface NarrowOutput {
  /** For products on tensor cores; undefined where none reads it. */
  readonly narrow: DeviceBuffer | undefined;
  readonly dtype: NarrowType | undefined;
  /** Whether somebody wants it in float32. */
  readonly wide: boolean;
}

/** @param dtype of what the step can leave besides float32, where it is one alone. */
export function narrowOutput(name: string, context: StepContext, dtype?: NarrowType): NarrowOutput {
  const { narrow, plan, places, captured } = context;
  const wanted = plan.rows === 0 && places.of(name).per === "row" ? narrow.typeFor(name) : undefined;
  if (!wanted || (dtype && wanted !== dtype)) return { narrow: undefined, dtype: undefined, wide: true };
  const only = !captured && narrow.isOnlyOperand(name);
  return { narrow: narrow.leave(places, name, wanted, only).buffer, dtype: wanted, wide: !only };
}

/** What tensor cores take a product's operands in: undefined for few rows, and for weights that are not of 16 bits. */
export function operandType({ weights, lastRows }: ProjectStep, { plan, memory }: StepContext): NarrowType | undefined {
  if (plan.rows > 0 || lastRows) return undefined;
  return narrowTypeOf(memory.weights.matrix(weights[0]!).matrix.dtype);
}
