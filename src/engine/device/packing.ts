import type { ModelConfig } from "../../spec/models/config.js";
import { expectedParameters } from "../../spec/models/decoder.js";

/** Parameters of a layer that lie one after the other in device memory, so that one kernel can compute with all of them. */
const together: Readonly<Record<string, readonly string[]>> = {
  qkv: ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
  "qkv bias": ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
  qk_norm: ["self_attn.q_norm.weight", "self_attn.k_norm.weight"],
  "gate+up": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
  "gate+up bias": ["mlp.gate_proj.bias", "mlp.up_proj.bias"],
};

/** Memory of one or more parameters, in order. */
export interface Slot {
  /** What fused steps call it. */
  readonly label: string;
  readonly parameters: readonly { readonly name: string; readonly shape: readonly number[] }[];
}

/** Every parameter of the model in its slot: several together where the table says so, else alone. */
export function slotsOf(config: ModelConfig): Slot[] {
  const shapes = expectedParameters(config);
  const slotOf = new Map<string, Slot>();
  for (let layer = 0; layer < config.layerCount; layer++) {
    for (const [label, names] of Object.entries(together)) {
      const full = names.map((name) => `model.layers.${layer}.${name}`);
      if (!full.every((name) => shapes.has(name))) continue;
      const slot = { label, parameters: full.map((name) => ({ name, shape: shapes.get(name)! })) };
      for (const name of full) slotOf.set(name, slot);
    }
  }
  const alone = (name: string, shape: readonly number[]): Slot => ({ label: name, parameters: [{ name, shape }] });
  return [...new Set(Array.from(shapes, ([name, shape]) => slotOf.get(name) ?? alone(name, shape)))];
}
