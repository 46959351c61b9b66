import { spanText } from "../diagnose/check/span.js";
import type { NearestCause } from "../diagnose/explain/nearest-causes.js";
import type { Finding } from "../diagnose/tell/verdict.js";
import { percent } from "./text.js";

/** How far and where a unit is from what its inputs imply. */
export function findingWords({ unit, rmsZ, maxZ, extent, span }: Finding): string {
  const where = [
    span && `somewhere in ${spanText(span)}, unrecorded`,
    extent.rows && `rows ${extent.rows}`,
    extent.heads && `heads ${extent.heads}`,
    extent.columns && `columns ${extent.columns}`,
    extent.holds,
  ].filter(Boolean);
  return `${unit}: rms z ${rmsZ ?? "infinite"}, max ${maxZ ?? "infinite"}${where.length > 0 ? `; ${where.join("; ")}` : ""}`;
}

/** "norm-epsilon in model.layers.0.input_layernorm (…) gives 61% of the bits, 40% without it". */
export function nearestWords({ cause, site, statement, equal, equalWithout, errorsLeft }: NearestCause): string {
  const much =
    equal === undefined
      ? `leaves ${percent(errorsLeft ?? 1)} of the errors`
      : `gives ${percent(equal)} of the bits, ${percent(equalWithout ?? 0)} without it`;
  return `${cause} in ${site} (${statement}) ${much}`;
}
