import type { PlacedDense } from "../../capture/observations.js";
import type { GraphNode } from "../../spec/graph.js";
import { type CauseId, classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import { lastName } from "../causes/proposal.js";
import type { Investigation } from "../check/investigation.js";

/**
 * What a consumer read in a value's place, where that is another recorded value of its layer, bit for bit: the value before
 * its last step, or another one altogether.
 */
export function readInstead(
  investigation: Investigation,
  node: GraphNode,
  input: PlacedDense,
): Pick<DirectCause, "cause" | "kind" | "transform" | "parameters" | "statement" | "group"> | undefined {
  const { graph, observations } = investigation;
  for (const other of graph.nodes.values()) {
    if (other.name === node.name || other.columns !== node.columns || other.layer !== node.layer) continue;
    const record = observations
      .denseRecords(other.name)
      .find(({ record, stepIndex }) => record.role === "output" && stepIndex === input.stepIndex);
    if (!record || record.record.view.dtype !== input.record.view.dtype || !holdsSame(investigation, record, input))
      continue;
    const reader = input.record.by ?? "its consumer";
    const step = other.name === node.inputs[0] ? stepLeftOut(node, other, reader) : undefined;
    const { cause, group } = step ?? { cause: "operand-swapped", group: `operand-swapped ${lastName(other.name)} 0` };
    return {
      ...classed(cause),
      parameters: { by: reader, used: lastName(other.name) },
      statement: `${reader} reads ${lastName(other.name)} where ${lastName(node.name)} belongs, bit for bit`,
      group,
    };
  }
  return undefined;
}

/** What it is called to read a value before its last step; the group is that of the rewrite which means the same. */
function stepLeftOut(
  node: GraphNode,
  before: GraphNode,
  reader: string,
): { cause: CauseId; group: string } | undefined {
  if (node.op.kind === "rmsnorm" && node.columns === before.columns && !node.heads) {
    return { cause: "operand-unnormed", group: `operand-unnormed ${JSON.stringify({ norm: lastName(node.name) })}` };
  }
  if (node.op.kind !== "rope") return undefined;
  if (node.site.what === "query-rotated") return { cause: "query-unrotated", group: "query-unrotated {}" };
  return reader.endsWith("cache")
    ? { cause: "cached-before-rope", group: `cached-before-rope ${lastName(before.name)} 0` }
    : { cause: "key-unrotated", group: "key-unrotated {}" };
}

function holdsSame({ observations }: Investigation, record: PlacedDense, input: PlacedDense): boolean {
  let varies = false;
  const same = [...input.rows].every((row) => {
    const made = observations.rowOf(record, row)?.value;
    const read = observations.rowOf(input, row)?.value;
    varies ||= read?.some((x) => x !== read[0]) ?? false;
    return made && read?.every((x, i) => Object.is(x, made[i]));
  });
  // Zeros are nobody's.
  return same && varies;
}
