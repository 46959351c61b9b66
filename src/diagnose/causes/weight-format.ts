import type { Op } from "../../spec/op.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { heldAs } from "../../tensor/held-parameters.js";
import type { Misreading, QuantisedParameter } from "../../tensor/quantised-parameter.js";
import { type CauseFamily, hypothesis } from "./proposal.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";

/** The bytes of a weight in a narrow format taken for other numbers: what its format's declaration says can happen to it. */
export const weightFormatCauses: CauseFamily = ({ site, investigation }) => {
  const { weight } = site.op.attributes;
  if (typeof weight !== "string" || (site.op.kind !== "linear" && site.op.kind !== "embedding")) return [];
  const quantised = investigation.parameters.quantised?.(weight);
  const store = storeType(investigation);
  return (quantised?.misreadings ?? []).map((misreading) =>
    hypothesis(misreading.cause, site, [replaced(site, { op: misread(site.op, weight, misreading, store) })], {
      kind: "parameter",
      transform: misreading.transform,
      parameters: misreading.parameters,
      statement: misreading.statement,
    }),
  );
};

/** The same op on parameters of which one is misread. */
function misread(op: Op, weight: string, misreading: Misreading, store: "float16" | "bfloat16" | "float32"): Op {
  return {
    ...op,
    attributes: { ...op.attributes, misread: misreading.statement },
    evaluate(context, rows, columns) {
      const parameters = withMisread(context.parameters, weight, misreading, store);
      return op.evaluate({ ...context, parameters }, rows, columns);
    },
  };
}

const readers = new WeakMap<QuantisedParameter, Map<Misreading, QuantisedParameter>>();

function withMisread(
  parameters: ParameterReader,
  weight: string,
  misreading: Misreading,
  store: "float16" | "bfloat16" | "float32",
): ParameterReader {
  const right = parameters.quantised?.(weight);
  if (!right) return parameters;
  const known = readers.get(right) ?? new Map<Misreading, QuantisedParameter>();
  readers.set(right, known);
  const wrong = known.get(misreading) ?? right.misread(misreading);
  known.set(misreading, wrong);
  const held = heldAs(
    {
      shape: () => wrong.shape,
      names: () => [],
      dtype: () => wrong.dtype,
      rows: (_, first, count) => wrong.rows(first, count),
    },
    store,
  );
  return {
    shape: (name) => parameters.shape(name),
    names: () => parameters.names(),
    dtype: (name) => parameters.dtype?.(name),
    quantised: (name) => (name === weight ? wrong : parameters.quantised?.(name)),
    rows: (name, first, count) => (name === weight ? held : parameters).rows(name, first, count),
  };
}
