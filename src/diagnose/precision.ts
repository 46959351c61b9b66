import type { Investigation } from "./investigation.js";

/** Float32 recordings may have been computed in TF32: their matrix products tell. */
export function choosePrecision(investigation: Investigation): Investigation {
  if (investigation.precision.store !== "float32") return investigation;
  const linears = investigation.units().filter((node) => node.op.kind === "linear" && !investigation.isDeep(node.name));
  const probes = linears.filter((_, i) => i % Math.max(1, Math.floor(linears.length / 9)) === 0);
  if (probes.length === 0) return investigation;
  const tf32 = investigation.withCompute("tf32");
  const failing = probes.filter((node) => investigation.check(node.name).excess > 1);
  const cured = failing.filter((node) => tf32.check(node.name).excess <= 1);
  return failing.length * 2 > probes.length && cured.length * 2 > failing.length ? tf32 : investigation;
}
