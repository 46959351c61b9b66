import type { BatchShape } from "../webgpu/batch-buffer.js";
import type { LayerBuilder } from "./layer-builder.js";
import type { DenseTap, Grid, Tap } from "./program.js";

/** The MLP with its norm and residual addition. */
export async function feedForward(layer: LayerBuilder): Promise<void> {
  const { values, weights } = layer;
  const { buffers, config, fusions, mode } = layer.context;
  const { hiddenSize, intermediateSize } = config;
  const { path } = values;
  const middle = values.wide(`${path}.post_attention_layernorm.input`, buffers.middle, hiddenSize);
  const normName = `${path}.post_attention_layernorm`;
  const normed = values.wide(normName, buffers.normed, hiddenSize);
  const product = values.wide(`${path}.mlp.down_proj.input`, buffers.product, intermediateSize);
  const fuse = fusions.gate && mode.columns > 0;
  if (!fuse) await layer.norm(normName, buffers.middle, weights.postNorm, middle, normed);
  if (fusions.gate) {
    await layer.linear({
      label: fuse ? "rmsnorm+gate+up+silu" : "gate+up+silu",
      matrix: weights.gateUp,
      input: fuse ? buffers.middle : buffers.normed,
      output: buffers.product,
      outputStride: intermediateSize,
      bias: weights.gateUpBias,
      gated: true,
      norm: fuse ? { gain: weights.postNorm, epsilon: config.rmsNormEpsilon } : undefined,
      reads: [fuse ? middle : normed],
      writes: [product],
    });
  } else await gateStepwise(layer, normed, product);
  const down = values.wide(`${path}.mlp.down_proj`, buffers.projected, hiddenSize);
  const output = values.wide(path, buffers.hidden, hiddenSize);
  const shared = {
    matrix: weights.down,
    input: buffers.product,
    outputStride: hiddenSize,
    bias: weights.downBias,
  };
  if (fusions.residual) {
    await layer.linear({
      ...shared,
      label: "down_proj+residual",
      output: buffers.hidden,
      residual: buffers.middle,
      reads: [product, middle],
      writes: [output],
    });
  } else {
    await layer.linear({
      ...shared,
      label: "down_proj",
      output: buffers.projected,
      reads: [product],
      writes: [down],
    });
    await layer.add(buffers.middle, middle, down, buffers.hidden, output);
  }
}

/** Gate, up, SiLU and their product, a dispatch per op of the spec. */
async function gateStepwise(layer: LayerBuilder, normed: Tap, product: Tap): Promise<void> {
  const { values } = layer;
  const { buffers, config } = layer.context;
  const { weights } = layer;
  const size = config.intermediateSize;
  const part = (name: string, offset: number): DenseTap => ({
    ...values.wide(`${values.path}.mlp.${name}`, buffers.gateUp, size),
    rowStride: 2 * size,
    offset,
  });
  for (const [label, first] of [
    ["gate_proj", 0],
    ["up_proj", size],
  ] as const) {
    await layer.linear({
      label,
      matrix: weights.gateUp,
      firstRow: first,
      rowCount: size,
      input: buffers.normed,
      output: buffers.gateUp,
      outputStride: 2 * size,
      outputOffset: first,
      bias: weights.gateUpBias,
      reads: [normed],
      writes: [part(label, first)],
    });
  }
  const act = values.wide(`${values.path}.mlp.act_fn`, buffers.activated, size);
  const grid = (shape: BatchShape): Grid => [Math.ceil(size / 128), shape.rows, 1];
  await layer.launch({
    name: "elementwise",
    label: "silu",
    constants: { OPERATION: 0, COLUMNS: size, FIRST_STRIDE: 2 * size },
    operands: { header: layer.context.header, first: buffers.gateUp, output: buffers.activated },
    grid,
    reads: [part("gate_proj", 0)],
    writes: [act],
  });
  await layer.launch({
    name: "elementwise",
    label: "multiply",
    constants: {
      OPERATION: 1,
      COLUMNS: size,
      FIRST_STRIDE: size,
      SECOND_STRIDE: 2 * size,
      SECOND_OFFSET: size,
    },
    operands: {
      header: layer.context.header,
      first: buffers.activated,
      second: buffers.gateUp,
      output: buffers.product,
    },
    grid,
    reads: [act, part("up_proj", size)],
    writes: [product],
  });
}
