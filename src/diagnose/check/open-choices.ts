import { Evaluator } from "../../spec/evaluator.js";
import type { GraphNode } from "../../spec/graph.js";
import { indices } from "../../spec/op.js";
import { openChoices } from "../../spec/ops/choose-experts.js";
import type { Routing } from "../../spec/ops/routing.js";
import { compareBlock, statisticsOf } from "../bits/statistics.js";
import { Investigation } from "./investigation.js";

/** Sets of experts that are tried for one row; where rounding leaves more of them open, the row is not judged. */
const most = 16;
/** Columns of what follows that tell one set from another. */
const comparedColumns = 96;

/**
 * Where a run's choices of experts were not recorded, rounding may leave open which experts a row went to: of the sets that it
 * allows the one counts from which the next recorded value follows best. Rows of which nothing tells stay open and are not judged.
 */
export function settleChoices(investigation: Investigation): Investigation {
  const { capture, config, parameters, observations, precision } = investigation;
  const unrecorded = investigation.graph.all("chosen").filter(({ name }) => !observations.has(name));
  for (const node of unrecorded) settle(investigation, node);
  return unrecorded.length === 0
    ? investigation
    : new Investigation(capture, config, parameters, { observations, precision });
}

function settle(investigation: Investigation, node: GraphNode): void {
  const witness = witnessOf(investigation, node);
  if (!witness) return;
  const { evaluator, observations } = investigation;
  const routing = node.op.attributes as unknown as Routing;
  const rows = observations.outputRows(witness.name);
  const choice = evaluator.read(node.name, rows, witness.name);
  const columns = indices(Math.min(witness.columns, comparedColumns));
  for (let r = 0; r < rows.length; r++) {
    if (choice.variance[r * node.columns] !== Infinity) continue;
    const row = rows.subarray(r, r + 1);
    const logits = evaluator.read(node.inputs[0]!, row, node.name);
    const sets = openChoices(evaluator, routing, logits.value, logits.variance, most);
    const best = nearest(investigation, node, witness, row, columns, sets);
    observations.settledRows.note(node, row[0]!, best);
  }
}

/** The set from which the recorded row of `witness` follows best. */
function nearest(
  investigation: Investigation,
  node: GraphNode,
  witness: GraphNode,
  row: Int32Array,
  columns: Int32Array,
  sets: readonly number[][],
): Float64Array | undefined {
  const { observations, evaluator } = investigation;
  const dtype = observations.dtype(witness.name)!;
  const observed = investigation.observed(witness.name, row, columns);
  let best: Float64Array | undefined;
  let least = Infinity;
  for (const set of sets) {
    const chosen = Float64Array.from(set);
    observations.settledRows.note(node, row[0]!, chosen);
    // Nothing of the set before is remembered.
    const block = new Evaluator({ ...evaluator }).evaluate(witness.name, row, columns);
    const statistics = statisticsOf(compareBlock(block, observed, dtype, row, columns));
    // Where none of them explains the row, something else is wrong with it, and nothing tells what was chosen.
    if (statistics.rmsZ >= least || investigation.excessOf(witness.name, statistics) > 1) continue;
    least = statistics.rmsZ;
    best = chosen;
  }
  return best;
}

/** The first recorded value that follows of a choice, and of no other unrecorded one. */
function witnessOf(investigation: Investigation, node: GraphNode): GraphNode | undefined {
  const { graph, observations } = investigation;
  const seen = new Set([node.name]);
  for (const name of seen) {
    for (const consumer of graph.consumers(name)) {
      if (observations.outputRows(consumer).length === 0) {
        seen.add(consumer);
        continue;
      }
      const others = investigation
        .interior(consumer)
        .filter(({ op, name: other }) => op.kind === "choose-experts" && other !== node.name);
      if (others.length === 0 && graph.node(consumer).columns > node.columns) return graph.node(consumer);
    }
  }
  return undefined;
}
