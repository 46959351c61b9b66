import { roleOf } from "../../spec/site.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import { extentOf } from "../check/extent.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";

/** Share of the wrong elements that must be NaN or infinite. */
const nearlyAll = 0.98;

/** Units that made NaN or infinity out of finite inputs, and nothing else wrong: a range fault, whatever its arithmetic. */
export function createdNonFinite(investigation: Investigation, unexplained: readonly UnitCheck[]): DirectCause[] {
  return unexplained.flatMap((check): DirectCause[] => {
    const { comparison, node, statistics } = check;
    const wrong = [...comparison.z.keys()].filter((i) => Math.abs(comparison.z[i]!) > 8);
    const broken = wrong.filter((i) => !Number.isFinite(comparison.observed[i]!));
    if (broken.length === 0 || broken.length < nearlyAll * wrong.length) return [];
    const rows = investigation.observations.rows;
    const { holds, rows: where } = extentOf(comparison, node);
    const step = rows.steps[rows.stepOf[comparison.rows[0]!]!]!.step;
    const attention = node.op.kind === "attention";
    return [
      {
        ...classed("non-finite-created"),
        unit: node.name,
        step,
        layer: node.layer,
        parameters: { elements: broken.length, of: statistics.checked },
        statement: `${node.name} gives ${holds ?? "NaN or infinity"} from finite inputs whose result is finite: ${
          attention
            ? "a score overflows a narrower type, or a masked slot holds NaN and 0 · NaN is NaN"
            : "an intermediate overflows a narrower type than the recorded ones"
        }`,
        group: `non-finite-created ${roleOf(node)}`,
        samples: statistics.checked,
        ...(where && { rows: where }),
      },
    ];
  });
}
