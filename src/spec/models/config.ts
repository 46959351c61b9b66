import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import type { LayerScope } from "../families/declaration.js";
import { families } from "../families/registry.js";
import type { ActivationName } from "../ops/activation.js";
import type { Turning } from "./rope-scaling.js";

/** Module names of the norms around a branch; absent where the family has none there. */
export interface BranchNorms {
  readonly before?: string;
  readonly after?: string;
}

/** What `config.json` says about a decoder, resolved by its family. */
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
  /** What is added to the weight of every norm: 1 where weights are stored minus one. */
  readonly normOffset: 0 | 1;
  /** Which norms stand around the branches of a layer. */
  readonly norms: { readonly attention: BranchNorms; readonly mlp: BranchNorms };
  readonly activation: ActivationName;
  /** RMSNorm of every query and key head before RoPE. */
  readonly queryKeyNorm: boolean;
  /** RMSNorm of all query and of all key heads together before RoPE. */
  readonly projectionNorm: boolean;
  readonly queryKeyValueBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** Whether q, k and v are one parameter of the checkpoint, and gate and up another. */
  readonly packedProjections: boolean;
  readonly tiedEmbeddings: boolean;
  /** sm_scale: multiplies q·k. */
  readonly attentionScale: number;
  /** Whether every head has a sink: a logit that joins the softmax and has no value. */
  readonly attentionSinks: boolean;
  /** cap · tanh(score / cap) of attention scores and of logits; undefined for none. */
  readonly attentionSoftCap: number | undefined;
  readonly logitSoftCap: number | undefined;
  /** Factors on embedding, on what each branch adds to the stream, and on logits; 1 for none. */
  readonly embeddingScale: number;
  readonly residualScale: number;
  readonly logitScale: number;
  /** Whether the embedding's own module scales it, or what calls it. */
  readonly embeddingScaledInModule: boolean;
  /** RoPE of a layer, scaling included; undefined where it has none. */
  readonly rotary: (layer: number) => Turning | undefined;
  /** Angle per position of each channel pair in the first layer, [rotary dimensions / 2]. */
  readonly inverseFrequencies: Float64Array;
  /** Multiplies cos and sin (YaRN) in the first layer; 1 otherwise. */
  readonly ropeAttentionFactor: number;
  readonly ropeTheta: number;
  /** Keys visible before the query's own per layer; undefined for all. */
  readonly windowLeft: (layer: number) => number | undefined;
  /**
   * What stands in place of a gated MLP in a layer, where anything does: declares its values and parameters for the
   * normalised stream `input` and returns the name of what it adds to the stream.
   */
  readonly feedForward?:
    | ((layer: number) => ((scope: LayerScope, config: ModelConfig, input: string) => string) | undefined)
    | undefined;
  readonly endTokens: readonly number[];
  /** Tokens that pad a batch or begin a text, where the config names them. */
  readonly padToken?: number | undefined;
  readonly beginToken?: number | undefined;
  readonly dtype: string;
}

const typed = z.looseObject({ model_type: z.string() });

/**
 * The model that `config` (the parsed text of a `config.json`) describes.
 * @param origin file named in errors.
 * @throws InputError naming the first field that is missing, of the wrong type, or of a model this spec does not mean.
 */
export function parseModelConfig(config: unknown, origin: string): ModelConfig {
  const parsed = typed.safeParse(config);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new InputError(`${origin}: ${issue.path.join(".") || "config"}: ${issue.message}`);
  }
  const { model_type: modelType } = parsed.data;
  const family = families.find(({ modelTypes }) => modelTypes.includes(modelType));
  if (!family) {
    const known = families.flatMap(({ modelTypes }) => modelTypes).join(", ");
    throw new InputError(`${origin}: model_type: "${modelType.slice(0, 60)}" is not one of ${known}`);
  }
  return family.read(config, origin);
}
