import { formatOf, kernel } from "../webgpu/kernels.js";
import type { Weights } from "../weights.js";
import { layerDispatches } from "./layer.js";
import type { LayerContext } from "./layer-builder.js";
import { linearDispatches } from "./linear.js";
import type { DenseTap, Dispatch } from "./program.js";

/** The dispatches from token ids to logits: embedding, every layer, final norm and lm_head. */
export async function forwardDispatches(context: LayerContext, weights: Weights): Promise<Dispatch[]> {
  const { gpu, config, header, batch, buffers } = context;
  const { hiddenSize, vocabularySize } = config;
  const body: Dispatch[] = [];
  const embedding = await kernel(gpu, "embedding", {
    K: hiddenSize,
    VOCABULARY: vocabularySize,
    WEIGHT_FORMAT: formatOf(weights.embedding.dtype, "embedding"),
  });
  body.push({
    label: "embedding",
    kernel: embedding,
    group: embedding.bind({ header, batch, weights: weights.embedding.buffer, output: buffers.hidden }),
    grid: (shape) => [Math.ceil(hiddenSize / 8 / 64), shape.rows, 1],
    reads: [],
    writes: [wide(context, "model.embed_tokens", buffers.hidden)],
  });
  for (const [layer, layerWeights] of weights.layers.entries()) {
    body.push(...(await layerDispatches(context, layer, layerWeights)));
  }
  body.push(...(await head(context, weights)));
  return body;
}

/** The final norm and the logits of every sequence's last row. */
async function head(context: LayerContext, weights: Weights): Promise<Dispatch[]> {
  const { gpu, config, buffers, fusions } = context;
  const { hiddenSize, vocabularySize } = config;
  const stream = wide(
    context,
    config.layerCount === 0 ? "model.embed_tokens" : `model.layers.${config.layerCount - 1}`,
    buffers.hidden,
  );
  const normed = wide(context, "model.norm", buffers.normed);
  const dispatches: Dispatch[] = [];
  if (!fusions.projection) {
    const norm = await kernel(gpu, "rmsnorm", {
      WIDTH: hiddenSize,
      EPSILON: config.rmsNormEpsilon,
      THREADS: 128,
      INPUT_STRIDE: hiddenSize,
      OUTPUT_STRIDE: hiddenSize,
    });
    dispatches.push({
      label: "norm",
      kernel: norm,
      group: norm.bind({ header: context.header, input: buffers.hidden, gain: weights.norm, output: buffers.normed }),
      grid: (shape) => [1, shape.rows, 1],
      reads: [stream],
      writes: [normed],
    });
  }
  const logits: DenseTap = {
    kind: "dense",
    name: "lm_head",
    buffer: buffers.logits,
    shape: [vocabularySize],
    rowStride: vocabularySize,
    offset: 0,
    per: "sequence",
  };
  const fused = fusions.projection;
  dispatches.push(
    ...(await linearDispatches(context, {
      label: fused ? "rmsnorm+lm_head" : "lm_head",
      matrix: weights.head,
      input: fused ? buffers.hidden : buffers.normed,
      output: buffers.logits,
      outputStride: vocabularySize,
      lastRows: true,
      norm: fused ? { gain: weights.norm, epsilon: config.rmsNormEpsilon } : undefined,
      reads: [fused ? stream : normed],
      writes: [logits],
    })),
  );
  return dispatches;
}

/** A hidden state [rows, hidden_size]. */
function wide({ config: { hiddenSize } }: LayerContext, name: string, buffer: GPUBuffer): DenseTap {
  return { kind: "dense", name, buffer, shape: [hiddenSize], rowStride: hiddenSize, offset: 0, per: "row" };
}
