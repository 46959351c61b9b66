import type { DType } from "../../tensor/dtype.js";
import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";
import type { ScaledLayout, WeightMemory } from "./scaled-weight.js";
import type { StoredWeight } from "./stored-weight.js";

/** How checkpoints keep a parameter in narrow numbers: one declaration, one file. docs/add-a-format.md */
export interface WeightFormat {
  readonly id: string;
  /** As people write it. */
  readonly title: string;
  /** Values of `quantization_config.quant_method` under which it is found. */
  readonly methods: readonly string[];
  /** Endings of the stored tensors that belong to one parameter; the first one is always there. */
  readonly parts: readonly string[];
  /** Ending of the parameter's name above, after what the parts have in common. */
  readonly parameter: string;
  /** Whether tensors of these types are of this format. */
  claims(types: ReadonlyMap<string, DType>, method: string): boolean;
  /** How the parameter is laid out. @throws InputError when the stored tensors do not fit together. */
  layout(stored: StoredWeight): ScaledLayout;
  /** What stands between the layout and the parameter, where it is not a matrix [outputs, inputs]. */
  arrange?(stored: StoredWeight, layout: ScaledLayout, memory: WeightMemory): QuantisedParameter;
}
