import type { PlacedDense } from "../../capture/observations.js";
import { storeVariance } from "../../spec/noise.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation } from "../check/investigation.js";

/** Mean square of z up to which a rank's numbers are those of a part. */
const closeEnough = 9;
const mostRows = 8;

/**
 * Key/value heads that several ranks keep: a rank that keeps another head than its query heads belong to holds the right
 * numbers of a wrong part.
 * @returns undefined unless every rank's numbers are some part's.
 */
export function keyHeadsOfOtherRanks(investigation: Investigation, name: string): DirectCause | undefined {
  const { observations, evaluator, graph, capture, precision } = investigation;
  const node = graph.node(name);
  const replicas = observations.replicas.filter((replica) => replica.node.name === name);
  const [first] = replicas;
  if (!node.heads || !first || first.columns >= node.columns || node.op.kind !== "linear") return undefined;
  const { columns, of } = first;
  const rows = of.rows.subarray(0, mostRows);
  const meant = evaluator.evaluate(name, rows);
  const held = new Map<number, { own: number; part: number }>();
  for (const replica of replicas.filter((other) => other.of.stepIndex === of.stepIndex)) {
    for (const placed of [replica.of, replica.other]) {
      const part = partHeld(placed);
      if (part === undefined) return undefined;
      held.set(placed.record.rank!, { own: replica.firstColumn / columns, part });
    }
  }
  const map = [...held].sort(([a], [b]) => a - b);
  const astray = map.filter(([, { own, part }]) => own !== part).map(([rank]) => rank);
  if (astray.length === 0) return undefined;
  return {
    ...classed("key-heads-of-other-rank"),
    unit: name,
    step: capture.steps[of.stepIndex]!.step,
    layer: node.layer,
    parameters: { ranks: map.map(([rank]) => rank), parts: map.map(([, { part }]) => part) },
    statement: `ranks ${astray.join(", ")} keep key/value heads that their query heads do not belong to: ranks ${map.map(([rank]) => rank).join(" ")} hold parts ${map.map(([, { part }]) => part).join(" ")}, where ${map.map(([, { own }]) => own).join(" ")} belong`,
    group: `key-heads-of-other-rank ${map.map(([, { part }]) => part).join(" ")}`,
    samples: rows.length * node.columns,
  };

  /** The part whose numbers a rank holds, to within rounding. */
  function partHeld(placed: PlacedDense): number | undefined {
    const parts = Array.from({ length: node.columns / columns }, (_, part) => part);
    return parts.find((part) => {
      let squares = 0;
      for (const [r, row] of rows.entries()) {
        const seen = observations.partRow(placed, row, columns);
        if (!seen) return false;
        for (let c = 0; c < columns; c++) {
          const i = r * node.columns + part * columns + c;
          const variance = meant.variance[i]! + storeVariance(meant.value[i]!, precision.store);
          squares += (seen[c]! - meant.value[i]!) ** 2 / variance;
        }
      }
      return squares <= closeEnough * rows.length * columns;
    });
  }
}
