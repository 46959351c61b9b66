import type { z } from "zod";
import type { ModelConfig } from "../models/config.js";
import { expertModules, mixtureBranch, type SharedExpert } from "./mixture.js";
import { expertCountOf, isDenseLayer, type mixtureFields, type sparseFields } from "./mixture-fields.js";

type Fields = z.infer<z.ZodObject<typeof mixtureFields>> &
  z.infer<z.ZodObject<typeof sparseFields>> & { readonly intermediate_size: number };

/**
 * Qwen's mixture in the layers that are not dense: a softmax router over experts with modules of their own.
 * @throws InputError when the config names no number of experts, or fewer than are chosen.
 */
export function sparseMixture(
  c: Fields,
  { hiddenSize, activation }: ModelConfig,
  origin: string,
  shared?: SharedExpert,
): NonNullable<ModelConfig["feedForward"]> {
  const { experts, topK, width } = expertCountOf(c, origin);
  return (layer) =>
    isDenseLayer(c, layer)
      ? undefined
      : (scope, _, input) => {
          const mlp = `${scope.path}.mlp`;
          return mixtureBranch(scope, input, {
            routing: { experts, topK, scoring: "softmax", renormalised: c.norm_topk_prob === true, scale: 1 },
            router: { module: "gate", weight: `${mlp}.gate.weight` },
            hidden: hiddenSize,
            width,
            experts: expertModules(`${mlp}.experts`, experts, { gate: "gate_proj", up: "up_proj", down: "down_proj" }),
            gating: activation,
            shared,
          });
        };
}
