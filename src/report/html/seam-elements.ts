import type { Investigation } from "../../diagnose/check/investigation.js";
import { seamCase } from "../../repro/seam-case.js";
import type { CaseRow } from "../../repro/unit-case.js";
import { type DType, floatFormat } from "../../tensor/dtype.js";
import { drawnElements } from "./drawn-elements.js";
import { edgesOf } from "./map-marks.js";
import type { UnitElements } from "./page-data.js";

/** A value that is read otherwise than it was written: what was produced, and what its consumer got. undefined where both are the same. */
export function seamElements(investigation: Investigation, name: string): UnitElements | undefined {
  const found = seamCase(investigation, name, "");
  const dtype = found?.dtype as DType;
  if (!found || !floatFormat(dtype)) return undefined;
  const node = investigation.graph.node(name);
  const rows = Int32Array.from(found.rows, (row) => rowOf(investigation, row));
  const sample = { rows, columns: Int32Array.from(found.columns) };
  const { observed, criterion } = found;
  return {
    unit: name,
    dtype,
    ...drawnElements(sample, { expected: criterion.expected, observed }, dtype),
    of: { rows: rows.length, columns: node.columns },
    rectangles: [],
    ...edgesOf(investigation, node, [], sample),
    basis:
      "Expected: what was produced and is to be handed on. Observed: what its consumer read. Wrong rows only, the first of them",
  };
}

/** The row that computed a token of a case. */
function rowOf({ observations: { rows } }: Investigation, { step, sequence, position }: CaseRow): number {
  const at = rows.steps.find((placed) => placed.step === step);
  for (let row = at?.firstRow ?? 0; row < rows.count; row++)
    if (rows.seqId[row] === sequence && rows.position[row] === position) return row;
  return 0;
}
