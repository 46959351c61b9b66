import { roleOf } from "../spec/recipe.js";
import type { Investigation } from "./investigation.js";

/** Float32 recordings may have been computed in TF32: the recipes of their matrix products tell. */
export function choosePrecision(investigation: Investigation): Investigation {
  if (investigation.precision.store !== "float32") return investigation;
  const products = investigation
    .units()
    .filter((node) => node.op.kind === "linear" && investigation.hasBits(node.name));
  const roles = new Map(products.map((node) => [roleOf(node.name), node]));
  let tf32 = 0;
  let settled = 0;
  for (const [role, node] of roles) {
    const { recipe, matched } = investigation.check(node.name);
    if (!matched || !recipe) continue;
    settled++;
    if (recipe.ops.get(role)?.settings.tf32) tf32++;
  }
  return tf32 * 2 > settled ? investigation.withCompute("tf32") : investigation;
}
