import { roleOf } from "../../spec/site.js";
import type { Investigation } from "./investigation.js";

/** Ops that matrix units compute. */
const products: ReadonlySet<string> = new Set(["linear", "expert-linear", "attention"]);

/**
 * Float32 recordings may have been computed in TF32: the recipes of their matrix products tell. Of products that nobody
 * recorded, the spans around them do: where none of them follows in float32, and one does in TF32.
 */
export function choosePrecision(investigation: Investigation): Investigation {
  if (investigation.precision.store !== "float32") return investigation;
  // One product in TF32 means that it is allowed: any other may use it.
  if (productsTell(investigation)) return investigation.withCompute("tf32");
  const spans = spansOfProducts(investigation);
  if (spans.length === 0 || spans.some((name) => follows(investigation, name))) return investigation;
  const narrow = investigation.withCompute("tf32");
  return spans.some((name) => follows(narrow, name)) ? narrow : investigation;
}

function productsTell(investigation: Investigation): boolean {
  const recorded = investigation
    .units()
    .filter((node) => node.op.kind === "linear" && investigation.hasBits(node.name));
  const roles = new Map(recorded.map((node) => [roleOf(node), node]));
  return [...roles].some(([role, node]) => {
    const { recipe, matched } = investigation.check(node.name);
    return matched && recipe?.ways.some(({ ops }) => ops.get(role)?.settings.narrow === "tf32");
  });
}

/** Units whose bits tell nothing, and in which products lie that were not recorded themselves. */
function spansOfProducts(investigation: Investigation): string[] {
  return investigation
    .units()
    .filter(({ name }) => !investigation.hasBits(name))
    .filter(({ name }) => investigation.interior(name).some((node) => products.has(node.op.kind) && node.name !== name))
    .map(({ name }) => name);
}

function follows(investigation: Investigation, name: string): boolean {
  const { statistics, excess } = investigation.check(name);
  return statistics.checked > 0 && excess <= 1;
}
