/** Fields of a config.json. */
type Fields = Readonly<Record<string, unknown>>;

const common = {
  intermediate_size: 144,
  num_hidden_layers: 3,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 600,
  max_position_embeddings: 512,
  hidden_act: "silu",
  dtype: "bfloat16",
};

/** Small models by family: QK-norm and tied embeddings; biases, a window and its own head; llama3 RoPE scaling and a square q_proj. */
export const smallShapes: Readonly<Record<string, Fields>> = {
  qwen3: {
    ...common,
    model_type: "qwen3",
    hidden_size: 64,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
  },
  qwen2: {
    ...common,
    model_type: "qwen2",
    hidden_size: 80,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000,
    tie_word_embeddings: false,
    use_sliding_window: true,
    sliding_window: 9,
    max_window_layers: 1,
  },
  llama: {
    ...common,
    model_type: "llama",
    hidden_size: 96,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
    tie_word_embeddings: false,
  },
};

/** A model of a family of `smallShapes` as wide as published ones are. */
export interface WideShape {
  readonly family: string;
  readonly width: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly headDim: number;
  readonly interior: number;
  readonly layers: number;
}

/** One or two layers of models of 256 to 5,120 channels. */
export const wideShapes: readonly WideShape[] = [
  { family: "qwen3", width: 256, heads: 8, keyHeads: 2, headDim: 32, interior: 768, layers: 2 },
  { family: "qwen2", width: 512, heads: 8, keyHeads: 8, headDim: 64, interior: 1408, layers: 2 },
  { family: "llama", width: 576, heads: 9, keyHeads: 3, headDim: 64, interior: 1536, layers: 2 },
  { family: "qwen3", width: 1024, heads: 16, keyHeads: 8, headDim: 128, interior: 3072, layers: 1 },
  { family: "llama", width: 2048, heads: 32, keyHeads: 8, headDim: 64, interior: 2048, layers: 1 },
  { family: "qwen3", width: 2560, heads: 16, keyHeads: 4, headDim: 128, interior: 2432, layers: 1 },
  { family: "llama", width: 4096, heads: 16, keyHeads: 4, headDim: 128, interior: 1536, layers: 1 },
  { family: "qwen3", width: 5120, heads: 16, keyHeads: 2, headDim: 128, interior: 1024, layers: 1 },
];

/** Shapes to measure without a checkpoint, as their config.json has them. */
export const publishedShapes = {
  "qwen3-0.6b": {
    model_type: "qwen3",
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 151936,
    max_position_embeddings: 40960,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000,
    tie_word_embeddings: true,
  },
  // Says nothing about speed: for trying the command.
  tiny: {
    model_type: "qwen3",
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    vocab_size: 97,
    max_position_embeddings: 512,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
  },
} as const;
