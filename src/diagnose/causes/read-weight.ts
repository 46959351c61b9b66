import type { Op } from "../../spec/op.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { heldAs } from "../../tensor/held-parameters.js";
import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";

/** How code takes the bytes of a quantised weight for other numbers. */
export type WrongReading = (right: QuantisedParameter) => QuantisedParameter;

/**
 * The same op on parameters of which one, a quantised weight, is read in another way.
 * @param title what is wrong, for reports.
 * @param store the type between ops: weights are rounded to it on loading.
 */
export function readingWeight(
  op: Op,
  weight: string,
  title: string,
  change: WrongReading,
  store: "float16" | "bfloat16" | "float32",
): Op {
  const known = new WeakMap<QuantisedParameter, ParameterReader>();
  return {
    ...op,
    attributes: { ...op.attributes, misread: title },
    evaluate(context, rows, columns) {
      const right = context.parameters.quantised?.(weight);
      if (!right) return op.evaluate(context, rows, columns);
      let held = known.get(right);
      if (!held) {
        held = heldWrong(change(right), store);
        known.set(right, held);
      }
      return op.evaluate({ ...context, parameters: withWeight(context.parameters, weight, held) }, rows, columns);
    },
  };
}

/** One weight as a runtime holds it that misreads it, under any name. */
function heldWrong(wrong: QuantisedParameter, store: "float16" | "bfloat16" | "float32"): ParameterReader {
  const reader: ParameterReader = {
    shape: () => wrong.shape,
    names: () => [],
    dtype: () => wrong.dtype,
    quantised: () => wrong,
    rows: (_, first, count) => wrong.rows(first, count),
  };
  return heldAs(reader, store);
}

function withWeight(parameters: ParameterReader, weight: string, held: ParameterReader): ParameterReader {
  const of = (name: string) => (name === weight ? held : parameters);
  return {
    shape: (name) => parameters.shape(name),
    names: () => parameters.names(),
    dtype: (name) => parameters.dtype?.(name),
    quantised: (name) => of(name).quantised?.(name),
    rows: (name, first, count) => of(name).rows(name, first, count),
  };
}
