import type { ModelConfig } from "../models/config.js";
import { activation } from "../ops/activation.js";
import { identity } from "../ops/identity.js";
import { multiply } from "../ops/multiply.js";
import type { What } from "../site.js";
import type { LayerScope } from "./declaration.js";
import { projection, sideBySide } from "./pieces.js";

const module = "mlp";

/** down(activation(gate(x)) · up(x)): the name of what it adds to the stream. Shazeer, "GLU Variants Improve Transformer", 2020. */
export function gatedMlp(scope: LayerScope, config: ModelConfig, input: string): string {
  const { declaration } = scope;
  const { intermediateSize, hiddenSize, mlpBias: bias } = config;
  const wide = { columns: intermediateSize };
  const size = { columns: hiddenSize };
  const place = (name: string, what: What) => scope.place(`${module}.${name}`, what, "mlp");
  const packed = sideBySide(`${scope.path}.${module}.gate_up_proj`, [intermediateSize, intermediateSize]);
  const [gatePart, upPart] = config.packedProjections ? packed : [];
  const from = { input, inputs: hiddenSize, bias };
  const gate = projection(declaration, place("gate_proj", "gate"), wide, { ...from, part: gatePart });
  const up = projection(declaration, place("up_proj", "up"), wide, { ...from, part: upPart });
  const active = declaration.value(place("act_fn", "activated"), activation(config.activation), [gate], wide);
  const gated = declaration.value(place("down_proj.input", "gated"), multiply(), [active, up], wide);
  const down = projection(declaration, place("down_proj", "output"), size, {
    input: gated,
    inputs: intermediateSize,
    bias,
  });
  return declaration.value(scope.place(module, "branch", "mlp"), identity(), [down], size);
}
