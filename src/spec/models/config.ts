import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import { type ActivationName, activations } from "../ops/activation.js";
import { ropeFrequencies, ropeParametersSchema } from "./rope-scaling.js";

/** What `config.json` says about a decoder, resolved: one definition for Qwen3, Qwen2/2.5, Llama 3.x and SmolLM2. */
export interface ModelConfig {
  readonly modelType: string;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  readonly vocabularySize: number;
  readonly maxPositions: number;
  readonly rmsNormEpsilon: number;
  readonly activation: ActivationName;
  /** RMSNorm of every query and key head before RoPE (Qwen3). */
  readonly queryKeyNorm: boolean;
  readonly queryKeyValueBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  readonly tiedEmbeddings: boolean;
  /** Angle per position of each channel pair, [headDim / 2], RoPE scaling included. */
  readonly inverseFrequencies: Float64Array;
  /** Multiplies cos and sin (YaRN); 1 otherwise. */
  readonly ropeAttentionFactor: number;
  readonly ropeTheta: number;
  /** Keys visible before the query's own per layer; undefined for all. */
  readonly windowLeft: (layer: number) => number | undefined;
  readonly endTokens: readonly number[];
  /** Tokens that pad a batch or begin a text, where the config names them. */
  readonly padToken?: number | undefined;
  readonly beginToken?: number | undefined;
  readonly dtype: string;
}

const size = z
  .int()
  .positive()
  .max(2 ** 24);

const configSchema = z.looseObject({
  model_type: z.string(),
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: z.int().positive().max(1024),
  num_attention_heads: z.int().positive().max(4096),
  num_key_value_heads: z.int().positive().max(4096).nullish(),
  head_dim: z.int().positive().max(4096).nullish(),
  vocab_size: size,
  max_position_embeddings: size.nullish(),
  rms_norm_eps: z.number().nonnegative(),
  hidden_act: z.string().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeParametersSchema.nullish(),
  rope_parameters: ropeParametersSchema.nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  sliding_window: z.int().positive().nullish(),
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.int().nonnegative().nullish(),
  layer_types: z.array(z.string()).nullish(),
  pad_token_id: z.int().nullish(),
  bos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  dtype: z.string().nullish(),
  torch_dtype: z.string().nullish(),
});

const supportedTypes = ["qwen3", "qwen2", "llama", "smollm2"];

/**
 * The model that `config` (the parsed text of a `config.json`) describes.
 * @param origin file named in errors.
 * @throws InputError naming the first field that is missing, of the wrong type, or of a model this spec does not mean.
 */
export function parseModelConfig(config: unknown, origin: string): ModelConfig {
  const parsed = configSchema.safeParse(config);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new InputError(`${origin}: ${issue.path.join(".") || "config"}: ${issue.message}`);
  }
  const c = parsed.data;
  if (!supportedTypes.includes(c.model_type)) {
    throw new InputError(
      `${origin}: model_type: "${c.model_type.slice(0, 60)}" is not one of ${supportedTypes.join(", ")}`,
    );
  }
  const activation = c.hidden_act ?? "silu";
  if (!Object.hasOwn(activations, activation)) {
    throw new InputError(
      `${origin}: hidden_act: "${activation.slice(0, 60)}" is not one of ${Object.keys(activations).join(", ")}`,
    );
  }
  const keyValueHeadCount = c.num_key_value_heads ?? c.num_attention_heads;
  if (c.num_attention_heads % keyValueHeadCount !== 0) {
    throw new InputError(
      `${origin}: num_attention_heads: ${c.num_attention_heads} is not a multiple of num_key_value_heads ${keyValueHeadCount}`,
    );
  }
  const headDim = c.head_dim ?? c.hidden_size / c.num_attention_heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new InputError(`${origin}: head_dim: expected an even whole number, found ${headDim}`);
  }
  const maxPositions = c.max_position_embeddings ?? 2048;
  const rope = c.rope_parameters ?? c.rope_scaling ?? {};
  const ropeTheta = c.rope_parameters?.rope_theta ?? c.rope_theta ?? 10000;
  const partial = c.partial_rotary_factor ?? 1;
  if (partial !== 1) throw new InputError(`${origin}: partial_rotary_factor: only 1 is supported, found ${partial}`);
  const { inverseFrequencies, attentionFactor } = ropeFrequencies(
    rope,
    { theta: ropeTheta, headDim, maxPositions },
    origin,
  );
  const qwen2 = c.model_type === "qwen2";
  const window =
    c.sliding_window && c.use_sliding_window !== false && c.model_type !== "llama" ? c.sliding_window : undefined;
  return {
    modelType: c.model_type,
    hiddenSize: c.hidden_size,
    intermediateSize: c.intermediate_size,
    layerCount: c.num_hidden_layers,
    headCount: c.num_attention_heads,
    keyValueHeadCount,
    headDim,
    vocabularySize: c.vocab_size,
    maxPositions,
    rmsNormEpsilon: c.rms_norm_eps,
    activation: activation as ActivationName,
    queryKeyNorm: c.model_type === "qwen3",
    queryKeyValueBias: qwen2 || c.attention_bias === true,
    // Qwen2 has biases on q, k and v alone, whatever its config says; elsewhere attention_bias covers o_proj too.
    outputBias: !qwen2 && c.attention_bias === true,
    mlpBias: c.mlp_bias === true,
    tiedEmbeddings: c.tie_word_embeddings ?? false,
    inverseFrequencies,
    ropeAttentionFactor: attentionFactor,
    ropeTheta,
    windowLeft(layer) {
      if (window === undefined) return undefined;
      const sliding = c.layer_types
        ? c.layer_types[layer] === "sliding_attention"
        : layer >= (c.max_window_layers ?? 0);
      return sliding ? window - 1 : undefined;
    },
    endTokens: c.eos_token_id === undefined || c.eos_token_id === null ? [] : [c.eos_token_id].flat(),
    padToken: c.pad_token_id ?? undefined,
    beginToken: [c.bos_token_id ?? []].flat()[0],
    dtype: c.dtype ?? c.torch_dtype ?? "bfloat16",
  };
}
