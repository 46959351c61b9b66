import { z } from "zod";
import { InputError } from "../../tensor/errors.js";

const count = z.int().positive().max(4096);

/** Fields of config.json that mixtures of experts share, under the names that families have for them. */
export const mixtureFields = {
  num_experts: count.nullish(),
  num_local_experts: count.nullish(),
  n_routed_experts: count.nullish(),
  num_experts_per_tok: count,
  moe_intermediate_size: z
    .int()
    .positive()
    .max(2 ** 24)
    .nullish(),
};

/** Fields of Qwen's mixtures: which layers are none, and whether weights are divided by their sum. */
export const sparseFields = {
  norm_topk_prob: z.boolean().nullish(),
  decoder_sparse_step: z.int().positive().nullish(),
  mlp_only_layers: z.array(z.int().nonnegative()).max(1024).nullish(),
};

/** Whether a layer has a plain MLP. */
export function isDenseLayer(c: z.infer<z.ZodObject<typeof sparseFields>>, layer: number): boolean {
  return c.mlp_only_layers?.includes(layer) === true || (layer + 1) % (c.decoder_sparse_step ?? 1) !== 0;
}

type Fields = z.infer<z.ZodObject<typeof mixtureFields>> & { readonly intermediate_size: number };

/**
 * Experts of a layer, those chosen per token, and channels inside one.
 * @throws InputError when the config names no number of experts, or fewer than are chosen.
 */
export function expertCountOf(c: Fields, origin: string): { experts: number; topK: number; width: number } {
  const experts = c.num_local_experts ?? c.num_experts ?? c.n_routed_experts;
  if (!experts) throw new InputError(`${origin}: num_local_experts: expected the number of experts, found none`);
  const topK = c.num_experts_per_tok;
  if (topK > experts)
    throw new InputError(
      `${origin}: num_experts_per_tok: expected at most the ${experts} experts there are, found ${topK}`,
    );
  return { experts, topK, width: c.moe_intermediate_size ?? c.intermediate_size };
}
