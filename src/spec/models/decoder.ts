import { Graph, type GraphNode } from "../graph.js";
import { activation } from "../ops/activation.js";
import { add } from "../ops/add.js";
import { append } from "../ops/append.js";
import { argmax } from "../ops/argmax.js";
import { attention } from "../ops/attention.js";
import { embedding } from "../ops/embedding.js";
import { identity } from "../ops/identity.js";
import { linear } from "../ops/linear.js";
import { multiply } from "../ops/multiply.js";
import { rmsNorm } from "../ops/rmsnorm.js";
import { rope } from "../ops/rope.js";
import { select } from "../ops/select.js";
import type { ModelConfig } from "./config.js";

/** Parameter names that the checkpoint of `config` must hold, with their shapes. */
export function expectedParameters(config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, headDim } = config;
  const queries = config.headCount * headDim;
  const keys = config.keyValueHeadCount * headDim;
  const shapes = new Map<string, readonly number[]>([
    ["model.embed_tokens.weight", [config.vocabularySize, hiddenSize]],
    ["model.norm.weight", [hiddenSize]],
  ]);
  if (!config.tiedEmbeddings) shapes.set("lm_head.weight", [config.vocabularySize, hiddenSize]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const path = `model.layers.${layer}`;
    const project = (name: string, rows: number, columns: number, bias: boolean) => {
      shapes.set(`${path}.${name}.weight`, [rows, columns]);
      if (bias) shapes.set(`${path}.${name}.bias`, [rows]);
    };
    shapes.set(`${path}.input_layernorm.weight`, [hiddenSize]);
    shapes.set(`${path}.post_attention_layernorm.weight`, [hiddenSize]);
    project("self_attn.q_proj", queries, hiddenSize, config.queryKeyValueBias);
    project("self_attn.k_proj", keys, hiddenSize, config.queryKeyValueBias);
    project("self_attn.v_proj", keys, hiddenSize, config.queryKeyValueBias);
    project("self_attn.o_proj", hiddenSize, queries, config.outputBias);
    project("mlp.gate_proj", intermediateSize, hiddenSize, config.mlpBias);
    project("mlp.up_proj", intermediateSize, hiddenSize, config.mlpBias);
    project("mlp.down_proj", hiddenSize, intermediateSize, config.mlpBias);
    if (config.queryKeyNorm) {
      shapes.set(`${path}.self_attn.q_norm.weight`, [headDim]);
      shapes.set(`${path}.self_attn.k_norm.weight`, [headDim]);
    }
  }
  return shapes;
}

/** Name of the parameter lm_head multiplies with. */
export function outputWeight(config: ModelConfig): string {
  return config.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
}

/** The spec of a decoder: from token ids to the sampled token. */
export function decoderGraph(config: ModelConfig): Graph {
  const nodes: GraphNode[] = [
    { name: "model.embed_tokens", op: embedding("model.embed_tokens.weight"), inputs: [], columns: config.hiddenSize },
  ];
  let stream = "model.embed_tokens";
  for (let layer = 0; layer < config.layerCount; layer++) {
    nodes.push(...layerNodes(config, layer, stream));
    stream = `model.layers.${layer}`;
  }
  const hidden = { columns: config.hiddenSize };
  nodes.push(
    {
      name: "model.norm",
      op: rmsNorm({ weight: "model.norm.weight", epsilon: config.rmsNormEpsilon, width: config.hiddenSize }),
      inputs: [stream],
      ...hidden,
    },
    { name: "model", op: identity(), inputs: ["model.norm"], ...hidden },
    { name: "lm_head.input", op: select(), inputs: ["model"], ...hidden },
    {
      name: "lm_head",
      op: linear({ weight: outputWeight(config) }),
      inputs: ["lm_head.input"],
      columns: config.vocabularySize,
    },
    { name: "sample", op: argmax(), inputs: ["lm_head"], columns: 1 },
  );
  return new Graph(nodes);
}

function layerNodes(config: ModelConfig, layer: number, stream: string): GraphNode[] {
  const path = `model.layers.${layer}`;
  const attn = `${path}.self_attn`;
  const mlp = `${path}.mlp`;
  const { hiddenSize, intermediateSize, headDim, headCount, keyValueHeadCount, rmsNormEpsilon: epsilon } = config;
  const queries = { columns: headCount * headDim, heads: headCount };
  const keys = { columns: keyValueHeadCount * headDim, heads: keyValueHeadCount };
  const hidden = { columns: hiddenSize };
  const wide = { columns: intermediateSize };
  const project = (name: string, bias: boolean) =>
    linear({ weight: `${name}.weight`, bias: bias ? `${name}.bias` : undefined });
  const rotation = rope({
    headDim,
    rotaryDim: headDim,
    inverseFrequencies: config.inverseFrequencies,
    attentionFactor: config.ropeAttentionFactor,
    pairing: "half",
  });
  const nodes: Omit<GraphNode, "layer">[] = [
    {
      name: `${path}.input_layernorm`,
      op: rmsNorm({ weight: `${path}.input_layernorm.weight`, epsilon, width: hiddenSize }),
      inputs: [stream],
      ...hidden,
    },
    {
      name: `${attn}.q_proj`,
      op: project(`${attn}.q_proj`, config.queryKeyValueBias),
      inputs: [`${path}.input_layernorm`],
      ...queries,
    },
    {
      name: `${attn}.k_proj`,
      op: project(`${attn}.k_proj`, config.queryKeyValueBias),
      inputs: [`${path}.input_layernorm`],
      ...keys,
    },
    {
      name: `${attn}.v_proj`,
      op: project(`${attn}.v_proj`, config.queryKeyValueBias),
      inputs: [`${path}.input_layernorm`],
      ...keys,
    },
  ];
  if (config.queryKeyNorm) {
    nodes.push(
      {
        name: `${attn}.q_norm`,
        op: rmsNorm({ weight: `${attn}.q_norm.weight`, epsilon, width: headDim }),
        inputs: [`${attn}.q_proj`],
        ...queries,
      },
      {
        name: `${attn}.k_norm`,
        op: rmsNorm({ weight: `${attn}.k_norm.weight`, epsilon, width: headDim }),
        inputs: [`${attn}.k_proj`],
        ...keys,
      },
    );
  }
  const source = config.queryKeyNorm ? "norm" : "proj";
  nodes.push(
    { name: `${attn}.q_rope`, op: rotation, inputs: [`${attn}.q_${source}`], ...queries },
    { name: `${attn}.k_rope`, op: rotation, inputs: [`${attn}.k_${source}`], ...keys },
    { name: `${attn}.k_cache`, op: append(), inputs: [`${attn}.k_rope`], ...keys },
    { name: `${attn}.v_cache`, op: append(), inputs: [`${attn}.v_proj`], ...keys },
    {
      name: `${attn}.o_proj.input`,
      op: attention({
        heads: headCount,
        keyValueHeads: keyValueHeadCount,
        headDim,
        scale: 1 / Math.sqrt(headDim),
        windowLeft: config.windowLeft(layer),
      }),
      inputs: [`${attn}.q_rope`, `${attn}.k_cache`, `${attn}.v_cache`],
      ...queries,
    },
    {
      name: `${attn}.o_proj`,
      op: project(`${attn}.o_proj`, config.outputBias),
      inputs: [`${attn}.o_proj.input`],
      ...hidden,
    },
    { name: attn, op: identity(), inputs: [`${attn}.o_proj`], ...hidden },
    { name: `${path}.post_attention_layernorm.input`, op: add(), inputs: [stream, attn], ...hidden },
    {
      name: `${path}.post_attention_layernorm`,
      op: rmsNorm({ weight: `${path}.post_attention_layernorm.weight`, epsilon, width: hiddenSize }),
      inputs: [`${path}.post_attention_layernorm.input`],
      ...hidden,
    },
    {
      name: `${mlp}.gate_proj`,
      op: project(`${mlp}.gate_proj`, config.mlpBias),
      inputs: [`${path}.post_attention_layernorm`],
      ...wide,
    },
    {
      name: `${mlp}.up_proj`,
      op: project(`${mlp}.up_proj`, config.mlpBias),
      inputs: [`${path}.post_attention_layernorm`],
      ...wide,
    },
    { name: `${mlp}.act_fn`, op: activation(config.activation), inputs: [`${mlp}.gate_proj`], ...wide },
    { name: `${mlp}.down_proj.input`, op: multiply(), inputs: [`${mlp}.act_fn`, `${mlp}.up_proj`], ...wide },
    {
      name: `${mlp}.down_proj`,
      op: project(`${mlp}.down_proj`, config.mlpBias),
      inputs: [`${mlp}.down_proj.input`],
      ...hidden,
    },
    { name: mlp, op: identity(), inputs: [`${mlp}.down_proj`], ...hidden },
    { name: path, op: add(), inputs: [`${path}.post_attention_layernorm.input`, mlp], ...hidden },
  );
  return nodes.map((node) => ({ ...node, layer }));
}
