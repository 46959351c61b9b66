import { roleOf } from "../../spec/site.js";
import type { Investigation } from "./investigation.js";

/** Float32 recordings may have been computed in TF32: the recipes of their matrix products tell. */
export function choosePrecision(investigation: Investigation): Investigation {
  if (investigation.precision.store !== "float32") return investigation;
  const products = investigation
    .units()
    .filter((node) => node.op.kind === "linear" && investigation.hasBits(node.name));
  const roles = new Map(products.map((node) => [roleOf(node), node]));
  const tf32 = [...roles].some(([role, node]) => {
    const { recipe, matched } = investigation.check(node.name);
    return matched && recipe?.ways.some(({ ops }) => ops.get(role)?.settings.tf32 === true);
  });
  // One product in TF32 means that it is allowed: any other may use it.
  return tf32 ? investigation.withCompute("tf32") : investigation;
}
