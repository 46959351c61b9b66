import type { DeclaredParameter } from "../../spec/families/declaration.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { declareDecoder } from "../../spec/models/decoder.js";
import type { What } from "../../spec/site.js";

/** Parameters of a layer that lie one after the other in device memory, so that one kernel can compute with all of them. */
const together: Readonly<Record<string, readonly What[]>> = {
  qkv: ["query", "key", "value"],
  qk_norm: ["query-norm", "key-norm"],
  "gate+up": ["gate", "up"],
};

/** Memory of one or more parameters, in order. */
export interface Slot {
  /** What fused steps call it. */
  readonly label: string;
  readonly parameters: readonly { readonly name: string; readonly shape: readonly number[] }[];
}

/** Every parameter of the model in its slot: several together where the table says so, else alone. */
export function slotsOf(config: ModelConfig): Slot[] {
  return slotsOfParameters(declareDecoder(config).parameters);
}

/** The same of any parameters: those that a patch adds beside the model's own. */
export function slotsOfParameters(parameters: readonly DeclaredParameter[]): Slot[] {
  const slotOf = new Map<DeclaredParameter, Slot>();
  for (const parameter of parameters) {
    if (slotOf.has(parameter)) continue;
    const [label, all] = companions(parameters, parameter) ?? [parameter.name, [parameter]];
    const slot = { label, parameters: all.map(({ name, shape }) => ({ name, shape })) };
    for (const one of all) slotOf.set(one, slot);
  }
  return [...new Set(slotOf.values())];
}

/** What lies with a parameter, and what fused steps call it. */
function companions(
  parameters: readonly DeclaredParameter[],
  { site, isBias }: DeclaredParameter,
): [label: string, parameters: DeclaredParameter[]] | undefined {
  const entry = Object.entries(together).find(([, whats]) => site && whats.includes(site.what));
  if (!site || !entry) return undefined;
  const [label, whats] = entry;
  const own = parameters.filter(
    (other) => other.site?.layer === site.layer && other.site?.expert === site.expert && other.isBias === isBias,
  );
  const all = whats.flatMap((what) => own.filter((other) => other.site?.what === what));
  return all.length === whats.length ? [isBias ? `${label} bias` : label, all] : undefined;
}
