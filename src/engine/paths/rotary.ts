import type { Operand } from "../webgpu/pipelines.js";
import type { LayerBuilder } from "./layer-builder.js";

/** QK-norm, RoPE and the KV append in one dispatch. */
export async function rotateAndAppend(layer: LayerBuilder): Promise<void> {
  const { context, values } = layer;
  const { config, buffers, capture } = context;
  const heads = config.headCount + 2 * config.keyValueHeadCount;
  await layer.launch({
    name: "rope-append",
    label: "qk_norm+rope+append",
    constants: {
      ...rotaryConstants(layer),
      HEADS: config.headCount,
      KV_HEADS: config.keyValueHeadCount,
      CAPTURE: capture,
    },
    operands: {
      ...attentionOperands(layer, context.packedLayout(layer.index)),
      packed: buffers.queryKeyValue,
      rotated: buffers.query,
      rotated_keys: buffers.key,
      ...rotaryOperands(layer),
    },
    grid: (shape) => [heads, shape.rows, 1],
    reads: [values.packed("q_proj", 0), values.packed("k_proj", 1), values.packed("v_proj", 2)],
    writes: [values.rotated("q_rope"), values.rotated("k_rope"), values.pages("k_cache"), values.pages("v_cache")],
  });
}

/** QK-norm, RoPE and the KV append, a dispatch per op of the spec. */
export async function rotateStepwise(layer: LayerBuilder): Promise<void> {
  const { context, values } = layer;
  const { config, buffers, header, batch } = context;
  const { headDim } = config;
  const total = values.queryColumns + 2 * values.keyColumns;
  const sides = [
    ["q", config.headCount, 0, buffers.queryNormed, buffers.query],
    ["k", config.keyValueHeadCount, values.queryColumns, buffers.keyNormed, buffers.key],
  ] as const;
  const normed = (side: "q" | "k") =>
    values.heads(`${side}_norm`, side === "q" ? buffers.queryNormed : buffers.keyNormed, side);
  const raw = (side: "q" | "k") => values.packed(`${side}_proj`, side === "q" ? 0 : 1);
  if (config.queryKeyNorm) {
    for (const [side, heads, offset, output] of sides) {
      await layer.launch({
        name: "rmsnorm",
        label: `${side}_norm`,
        constants: {
          WIDTH: headDim,
          EPSILON: config.rmsNormEpsilon,
          INPUT_STRIDE: total,
          INPUT_OFFSET: offset,
          OUTPUT_STRIDE: heads * headDim,
          GAIN_OFFSET: side === "q" ? 0 : headDim,
        },
        operands: { header, input: buffers.queryKeyValue, gain: layer.weights.headGains!, output },
        grid: (shape) => [heads, shape.rows, 1],
        reads: [raw(side)],
        writes: [normed(side)],
      });
    }
  }
  for (const [side, heads, offset, from, output] of sides) {
    await layer.launch({
      name: "rope",
      label: `${side}_rope`,
      constants: {
        HEADS: heads,
        HEAD_DIM: headDim,
        ROTARY: headDim,
        INPUT_STRIDE: config.queryKeyNorm ? heads * headDim : total,
        INPUT_OFFSET: config.queryKeyNorm ? 0 : offset,
      },
      operands: {
        header,
        input: config.queryKeyNorm ? from : buffers.queryKeyValue,
        batch,
        angles: context.angles,
        output,
      },
      grid: (shape) => [Math.ceil((heads * headDim) / 64), shape.rows, 1],
      reads: [config.queryKeyNorm ? normed(side) : raw(side)],
      writes: [values.rotated(`${side}_rope`)],
    });
  }
  for (const isValue of [false, true]) {
    const name = isValue ? "v_cache" : "k_cache";
    await layer.launch({
      name: "append",
      label: isValue ? "append v" : "append k",
      constants: {
        HEADS: config.keyValueHeadCount,
        HEAD_DIM: headDim,
        INPUT_STRIDE: isValue ? total : values.keyColumns,
        INPUT_OFFSET: isValue ? values.queryColumns + values.keyColumns : 0,
        CACHE_FORMAT: context.store.format,
        VALUES: isValue,
      },
      operands: {
        header,
        addressing: context.denseLayout(layer.index),
        input: isValue ? buffers.queryKeyValue : buffers.key,
        batch,
        cache: (isValue ? context.store.values : context.store.keys)[layer.index]!,
      },
      grid: (shape) => [Math.ceil(values.keyColumns / 8 / 64), shape.rows, 1],
      reads: [isValue ? values.packed("v_proj", 2) : values.rotated("k_rope")],
      writes: [values.pages(name)],
    });
  }
}

function rotaryConstants(layer: LayerBuilder) {
  const { config, store } = layer.context;
  return {
    ...prologueConstants(layer),
    HEAD_DIM: config.headDim,
    ROTARY: config.headDim,
    CACHE_FORMAT: store.format,
  };
}

/** QK-norm as the kernels that rotate take it. */
export function prologueConstants({ context: { config } }: LayerBuilder) {
  return { QK_NORM: config.queryKeyNorm, EPSILON: config.rmsNormEpsilon };
}

/** RoPE's table and the gains of QK-norm. */
export function rotaryOperands({ context, weights: { headGains } }: LayerBuilder): Record<string, Operand> {
  return { angles: context.angles, ...(headGains ? { gains: headGains } : {}) };
}

/** The batch, how its rows are addressed, and the layer's KV pages. */
export function attentionOperands({ context, index }: LayerBuilder, addressing: GPUBuffer): Record<string, Operand> {
  const { header, batch, store } = context;
  return { header, addressing, batch, keys: store.keys[index]!, values: store.values[index]! };
}
