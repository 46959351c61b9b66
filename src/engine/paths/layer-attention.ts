import type { LayerBuilder } from "./layer-builder.js";
import type { DenseTap, Tap } from "./program.js";
import { projectOutput } from "./projection.js";
import { attentionOperands, prologueConstants, rotaryOperands, rotateAndAppend, rotateStepwise } from "./rotary.js";

/** From packed q|k|v rows to the hidden state after attention: QK-norm, RoPE, append, attention, output projection. */
export async function attend(layer: LayerBuilder): Promise<void> {
  const { context, values } = layer;
  const { buffers, config, fusions, decode, store } = context;
  const prologue = fusions.prologue && decode;
  if (!prologue) {
    if (fusions.rotary) await rotateAndAppend(layer);
    else await rotateStepwise(layer);
  }
  // One split is already the result: states of shape [rows, heads, 1, head_dim] are dense.
  const dense = decode && context.split === "no" ? buffers.states : buffers.attention;
  const output = values.wide(`${values.path}.self_attn.o_proj.input`, dense, values.queryColumns);
  if (decode) await decodeAttention(layer, prologue, output);
  else {
    await layer.launch({
      name: "attention-prefill",
      label: "attention",
      constants: {
        PAGE_SIZE: store.options.pageSize,
        GROUP: config.headCount / config.keyValueHeadCount,
        HEAD_DIM: config.headDim,
        CACHE_FORMAT: store.format,
      },
      operands: {
        ...attentionOperands(layer, context.denseLayout(layer.index)),
        query: buffers.query,
        output: buffers.attention,
        lse: buffers.attentionLse,
      },
      grid: (shape) => [config.headCount, shape.tileCount, 1],
      reads: [values.rotated("q_rope"), values.pages("k_cache"), values.pages("v_cache")],
      writes: [output],
    });
  }
  await projectOutput(layer, decode && context.split === "fused", output);
}

/** Split-KV attention of one row per sequence, and the merge of its states where no later kernel does that. */
async function decodeAttention(layer: LayerBuilder, prologue: boolean, output: Tap): Promise<void> {
  const { context, values } = layer;
  const { config, buffers, split, capture, store } = context;
  const caches = [values.pages("k_cache"), values.pages("v_cache")];
  const rotated = (name: "q_rope" | "k_rope"): DenseTap => ({
    ...values.rotated(name),
    buffer: buffers.states,
    rowStride: values.queryColumns + values.keyColumns,
    offset: buffers.captureAt + (name === "q_rope" ? 0 : values.queryColumns),
  });
  await layer.launch({
    name: "attention-decode",
    label: prologue ? "qk_norm+rope+append+attention" : "attention",
    constants: {
      PAGE_SIZE: store.options.pageSize,
      GROUP: config.headCount / config.keyValueHeadCount,
      HEAD_DIM: config.headDim,
      CACHE_FORMAT: context.store.format,
      ...(prologue
        ? {
            ...prologueConstants(layer),
            PROLOGUE: true,
            KEY_COLUMN: values.queryColumns,
            VALUE_COLUMN: values.queryColumns + values.keyColumns,
            CAPTURE_AT: capture ? buffers.captureAt : 0,
          }
        : {}),
    },
    operands: {
      ...attentionOperands(layer, (prologue ? context.packedLayout : context.denseLayout)(layer.index)),
      query: prologue ? buffers.queryKeyValue : buffers.query,
      output: buffers.states,
      lse: buffers.stateLse,
      ...(prologue ? rotaryOperands(layer) : {}),
    },
    grid: (shape) => [shape.splitCount, config.keyValueHeadCount, shape.sequences],
    reads: prologue
      ? [values.packed("q_proj", 0), values.packed("k_proj", 1), values.packed("v_proj", 2)]
      : [values.rotated("q_rope"), ...caches],
    writes: [
      ...(prologue ? [rotated("q_rope"), rotated("k_rope"), ...caches] : []),
      ...(split === "no" ? [output] : []),
    ],
  });
  // A fused merge leaves the merged value nowhere; for a capture it is made besides.
  if (split === "no" || (split === "fused" && !capture)) return;
  await layer.launch({
    name: "attention-merge",
    label: "merge",
    constants: { HEAD_DIM: config.headDim },
    operands: {
      states: context.mergeStates,
      input: buffers.states,
      input_lse: buffers.stateLse,
      output: buffers.attention,
      lse: buffers.attentionLse,
    },
    grid: (shape) => [config.headCount, shape.rows, 1],
    reads: [],
    writes: [output],
  });
}
