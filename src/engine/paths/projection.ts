import type { LayerBuilder } from "./layer-builder.js";
import type { DenseTap } from "./program.js";

/** RMSNorm and the q, k and v projections: hidden state in, packed q|k|v rows out. */
export async function projectQueryKeyValue(layer: LayerBuilder): Promise<void> {
  const { values, weights } = layer;
  const { buffers, fusions, config, mode } = layer.context;
  const normName = `${values.path}.input_layernorm`;
  const total = values.queryColumns + 2 * values.keyColumns;
  const fuse = fusions.projection && mode.columns > 0;
  const normed = values.wide(normName, buffers.normed, config.hiddenSize);
  if (!fuse) await layer.norm(normName, buffers.hidden, weights.inputNorm, values.stream, normed);
  const outputs = [values.packed("q_proj", 0), values.packed("k_proj", 1), values.packed("v_proj", 2)];
  const shared = {
    matrix: weights.queryKeyValue,
    input: fuse ? buffers.hidden : buffers.normed,
    output: buffers.queryKeyValue,
    outputStride: total,
    bias: weights.queryKeyValueBias,
    reads: [fuse ? values.stream : normed],
  };
  if (fusions.projection) {
    const norm = fuse ? { gain: weights.inputNorm, epsilon: config.rmsNormEpsilon } : undefined;
    await layer.linear({ ...shared, label: fuse ? "rmsnorm+qkv" : "qkv", norm, writes: outputs });
    return;
  }
  const parts = [
    ["q_proj", 0, values.queryColumns],
    ["k_proj", values.queryColumns, values.keyColumns],
    ["v_proj", values.queryColumns + values.keyColumns, values.keyColumns],
  ] as const;
  for (const [i, [label, firstRow, rowCount]] of parts.entries()) {
    await layer.linear({ ...shared, label, firstRow, rowCount, outputOffset: firstRow, writes: [outputs[i]!] });
  }
}

/** The output projection and the residual addition; with `merge` its input is split attention states. */
export async function projectOutput(layer: LayerBuilder, merge: boolean, attended: DenseTap): Promise<void> {
  const { values } = layer;
  const { buffers, config, fusions } = layer.context;
  const { hiddenSize, headDim } = config;
  const projected = values.wide(`${values.path}.self_attn.o_proj`, buffers.projected, hiddenSize);
  const middle = values.wide(`${values.path}.post_attention_layernorm.input`, buffers.middle, hiddenSize);
  const shared = {
    matrix: layer.weights.output,
    input: merge ? buffers.states : attended.buffer,
    merge: merge ? { lse: buffers.stateLse, headDim, mostSplits: layer.context.mergedSplits } : undefined,
    outputStride: hiddenSize,
    bias: layer.weights.outputBias,
    reads: merge ? [] : [attended],
  };
  if (fusions.residual) {
    await layer.linear({
      ...shared,
      label: merge ? "merge+o_proj+residual" : "o_proj+residual",
      output: buffers.middle,
      residual: buffers.hidden,
      reads: [...shared.reads, values.stream],
      writes: [middle],
    });
  } else {
    await layer.linear({
      ...shared,
      label: merge ? "merge+o_proj" : "o_proj",
      output: buffers.projected,
      writes: [projected],
    });
    await layer.add(buffers.hidden, values.stream, projected, buffers.middle, middle);
  }
}
