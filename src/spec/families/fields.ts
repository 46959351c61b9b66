import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import type { ModelConfig } from "../models/config.js";
import { type RopeParameters, ropeParametersSchema, ropeTurning, type Turning } from "../models/rope-scaling.js";
import { type ActivationName, activations } from "../ops/activation.js";

const size = z
  .int()
  .positive()
  .max(2 ** 24);

/** Fields of config.json that mean the same in every family. */
export const sharedFields = z.looseObject({
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
  tie_word_embeddings: z.boolean().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeParametersSchema.nullish(),
  rope_parameters: ropeParametersSchema.nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  pad_token_id: z.int().nullish(),
  bos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  dtype: z.string().nullish(),
  torch_dtype: z.string().nullish(),
});

/** Biases that a config may switch on. */
export const biasFields = { attention_bias: z.boolean().nullish(), mlp_bias: z.boolean().nullish() };

/** The biases of q, k, v and of the output projection, which one field switches. */
export function attentionBiases(c: {
  readonly attention_bias?: boolean | null | undefined;
}): Pick<ModelConfig, "queryKeyValueBias" | "outputBias"> {
  const attention = c.attention_bias === true;
  return { queryKeyValueBias: attention, outputBias: attention };
}

/** The biases that `biasFields` switch on. */
export function biases(
  c: z.infer<z.ZodObject<typeof biasFields>>,
): Pick<ModelConfig, "queryKeyValueBias" | "outputBias" | "mlpBias"> {
  return { ...attentionBiases(c), mlpBias: c.mlp_bias === true };
}

/** Which layers see a window of keys alone. */
export const windowFields = {
  // Some configs write 0 for none.
  sliding_window: z.int().nonnegative().nullish(),
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.int().nonnegative().nullish(),
  layer_types: z.array(z.string()).nullish(),
};

export type SharedFields = z.infer<typeof sharedFields>;

/**
 * @param defaults fields that transformers' configuration class of the family fills in when config.json leaves them out,
 * where plainDecoder would not take the same; null stays null.
 * @throws InputError naming the first field that is missing or of the wrong type.
 */
export function parsed<Fields>(
  schema: z.ZodType<Fields>,
  json: unknown,
  origin: string,
  defaults: Readonly<Record<string, unknown>> = {},
): Fields {
  const isObject = typeof json === "object" && json !== null && !Array.isArray(json);
  const result = schema.safeParse(isObject ? { ...defaults, ...json } : json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new InputError(`${origin}: ${issue.path.join(".") || "config"}: ${issue.message}`);
}

/**
 * What the shared fields mean: a decoder with a norm before each branch, a gated MLP, RoPE over whole heads in every layer,
 * and nothing else. A family's file says what is different.
 * @throws InputError when sizes contradict each other or the spec does not know an activation or RoPE type.
 */
export function plainDecoder(c: SharedFields, origin: string): ModelConfig {
  const headDim = headDimOf(c, origin);
  const keyValueHeadCount = c.num_key_value_heads ?? c.num_attention_heads;
  if (c.num_attention_heads % keyValueHeadCount !== 0) {
    throw new InputError(
      `${origin}: num_attention_heads: ${c.num_attention_heads} is not a multiple of num_key_value_heads ${keyValueHeadCount}`,
    );
  }
  const rope = c.rope_parameters ?? c.rope_scaling ?? {};
  const theta = c.rope_parameters?.rope_theta ?? c.rope_theta ?? 10000;
  return {
    modelType: c.model_type,
    hiddenSize: c.hidden_size,
    intermediateSize: c.intermediate_size,
    layerCount: c.num_hidden_layers,
    headCount: c.num_attention_heads,
    keyValueHeadCount,
    headDim,
    vocabularySize: c.vocab_size,
    maxPositions: maxPositionsOf(c),
    rmsNormEpsilon: c.rms_norm_eps,
    normOffset: 0,
    norms: { attention: { before: "input_layernorm" }, mlp: { before: "post_attention_layernorm" } },
    activation: activationOf(c.hidden_act ?? "silu", "hidden_act", origin),
    queryKeyNorm: false,
    projectionNorm: false,
    queryKeyValueBias: false,
    outputBias: false,
    mlpBias: false,
    packedProjections: false,
    tiedEmbeddings: c.tie_word_embeddings ?? false,
    attentionScale: 1 / Math.sqrt(headDim),
    attentionSinks: false,
    attentionSoftCap: undefined,
    logitSoftCap: undefined,
    embeddingScale: 1,
    residualScale: 1,
    logitScale: 1,
    embeddingScaledInModule: false,
    ...everywhere(turningOf(c, rope, theta, origin), theta),
    windowLeft: () => undefined,
    endTokens: c.eos_token_id === undefined || c.eos_token_id === null ? [] : [c.eos_token_id].flat(),
    padToken: c.pad_token_id ?? undefined,
    beginToken: [c.bos_token_id ?? []].flat()[0],
    dtype: c.dtype ?? c.torch_dtype ?? "bfloat16",
  };
}

/** One RoPE in all layers. */
function everywhere(
  turning: Turning,
  ropeTheta: number,
): Pick<ModelConfig, "rotary" | "inverseFrequencies" | "ropeAttentionFactor" | "ropeTheta"> {
  const { inverseFrequencies, attentionFactor } = turning;
  return { rotary: () => turning, inverseFrequencies, ropeAttentionFactor: attentionFactor, ropeTheta };
}

/**
 * How RoPE parameters turn queries and keys.
 * @param theta base of the frequencies.
 * @throws InputError for a type that the spec does not know, or a missing parameter.
 */
export function turningOf(c: SharedFields, rope: RopeParameters, theta: number, origin: string): Turning {
  const headDim = headDimOf(c, origin);
  const partial = rope.partial_rotary_factor ?? c.partial_rotary_factor ?? 1;
  const rotaryDim = Math.floor(headDim * partial);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0) {
    throw new InputError(
      `${origin}: partial_rotary_factor: expected an even number of channels of ${headDim}, found ${rotaryDim}`,
    );
  }
  return ropeTurning(rope, { theta, rotaryDim, maxPositions: maxPositionsOf(c) }, origin);
}

/** @throws InputError for an activation that the spec does not know. */
export function activationOf(name: string, field: string, origin: string): ActivationName {
  if (Object.hasOwn(activations, name)) return name as ActivationName;
  throw new InputError(
    `${origin}: ${field}: "${name.slice(0, 60)}" is not one of ${Object.keys(activations).join(", ")}`,
  );
}

function headDimOf(c: SharedFields, origin: string): number {
  const headDim = c.head_dim ?? c.hidden_size / c.num_attention_heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0)
    throw new InputError(`${origin}: head_dim: expected an even whole number, found ${headDim}`);
  return headDim;
}

function maxPositionsOf(c: SharedFields): number {
  return c.max_position_embeddings ?? 2048;
}

/** The window of the layers that slide, as keys before the query's own: a window counts the query itself. */
export function windowWhere(
  window: number | null | undefined,
  slides: (layer: number) => boolean,
): ModelConfig["windowLeft"] {
  return (layer) => (window && slides(layer) ? window - 1 : undefined);
}

/** Whether a layer slides: as `layer_types` says, or where there are none, as `otherwise` does. */
export function slidingWhere(
  { layer_types: types }: { readonly layer_types?: readonly string[] | null | undefined },
  otherwise: (layer: number) => boolean,
): (layer: number) => boolean {
  return (layer) => (types ? types[layer] === "sliding_attention" : otherwise(layer));
}

/** What Qwen's configuration classes fill in: windows are off unless switched on. */
export const qwenDefaults = {
  num_key_value_heads: 32,
  max_position_embeddings: 32768,
  use_sliding_window: false,
  sliding_window: 4096,
  max_window_layers: 28,
};

/** Windows, where they are switched on, of the layers that `layer_types` names, or of those from `max_window_layers` on. */
export function slidingLayers(c: z.infer<z.ZodObject<typeof windowFields>>): ModelConfig["windowLeft"] {
  return windowWhere(
    switchedWindow(c),
    slidingWhere(c, (layer) => layer >= (c.max_window_layers ?? 0)),
  );
}

/** The window of a config that has a switch for it. */
export function switchedWindow(c: z.infer<z.ZodObject<typeof windowFields>>): number | null | undefined {
  return c.use_sliding_window === true ? c.sliding_window : undefined;
}
