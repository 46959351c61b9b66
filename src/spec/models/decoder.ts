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
import { outsideLayers, type Place, type Site } from "../site.js";
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
    {
      ...outsideLayers("model.embed_tokens", "embedding"),
      op: embedding("model.embed_tokens.weight"),
      inputs: [],
      columns: config.hiddenSize,
    },
  ];
  let stream = "model.embed_tokens";
  for (let layer = 0; layer < config.layerCount; layer++) {
    nodes.push(...layerNodes(config, layer, stream));
    stream = `model.layers.${layer}`;
  }
  const hidden = { columns: config.hiddenSize };
  nodes.push(
    {
      ...outsideLayers("model.norm", "last-norm"),
      op: rmsNorm({ weight: "model.norm.weight", epsilon: config.rmsNormEpsilon, width: config.hiddenSize }),
      inputs: [stream],
      ...hidden,
    },
    { ...outsideLayers("model", "hidden"), op: identity(), inputs: ["model.norm"], ...hidden },
    { ...outsideLayers("lm_head.input", "gathered"), op: select(), inputs: ["model"], ...hidden },
    {
      ...outsideLayers("lm_head", "logits"),
      op: linear({ weight: outputWeight(config) }),
      inputs: ["lm_head.input"],
      columns: config.vocabularySize,
    },
    { ...outsideLayers("sample", "sample"), op: argmax(), inputs: ["lm_head"], columns: 1 },
  );
  return new Graph(nodes);
}

function layerNodes(config: ModelConfig, layer: number, stream: string): GraphNode[] {
  const path = `model.layers.${layer}`;
  const attn = `${path}.self_attn`;
  const mlp = `${path}.mlp`;
  const own = (module: string, block: Place["block"], what: Place["what"]): { name: string; site: Site } => {
    const name = `${path}${module}`;
    return { name, site: { name, role: `model.layers.*${module}`, block, what, layer } };
  };
  const inAttention = (name: string, what: Place["what"]) => own(`.self_attn.${name}`, "attention", what);
  const inMlp = (name: string, what: Place["what"]) => own(`.mlp.${name}`, "mlp", what);
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
      ...own(".input_layernorm", "attention", "norm"),
      op: rmsNorm({ weight: `${path}.input_layernorm.weight`, epsilon, width: hiddenSize }),
      inputs: [stream],
      ...hidden,
    },
    {
      ...inAttention("q_proj", "query"),
      op: project(`${attn}.q_proj`, config.queryKeyValueBias),
      inputs: [`${path}.input_layernorm`],
      ...queries,
    },
    {
      ...inAttention("k_proj", "key"),
      op: project(`${attn}.k_proj`, config.queryKeyValueBias),
      inputs: [`${path}.input_layernorm`],
      ...keys,
    },
    {
      ...inAttention("v_proj", "value"),
      op: project(`${attn}.v_proj`, config.queryKeyValueBias),
      inputs: [`${path}.input_layernorm`],
      ...keys,
    },
  ];
  if (config.queryKeyNorm) {
    nodes.push(
      {
        ...inAttention("q_norm", "query-norm"),
        op: rmsNorm({ weight: `${attn}.q_norm.weight`, epsilon, width: headDim }),
        inputs: [`${attn}.q_proj`],
        ...queries,
      },
      {
        ...inAttention("k_norm", "key-norm"),
        op: rmsNorm({ weight: `${attn}.k_norm.weight`, epsilon, width: headDim }),
        inputs: [`${attn}.k_proj`],
        ...keys,
      },
    );
  }
  const source = config.queryKeyNorm ? "norm" : "proj";
  nodes.push(
    { ...inAttention("q_rope", "query-rotated"), op: rotation, inputs: [`${attn}.q_${source}`], ...queries },
    { ...inAttention("k_rope", "key-rotated"), op: rotation, inputs: [`${attn}.k_${source}`], ...keys },
    { ...inAttention("k_cache", "key-cache"), op: append(), inputs: [`${attn}.k_rope`], ...keys },
    { ...inAttention("v_cache", "value-cache"), op: append(), inputs: [`${attn}.v_proj`], ...keys },
    {
      ...inAttention("o_proj.input", "mixed"),
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
      ...inAttention("o_proj", "output"),
      op: project(`${attn}.o_proj`, config.outputBias),
      inputs: [`${attn}.o_proj.input`],
      ...hidden,
    },
    { ...own(".self_attn", "attention", "branch"), op: identity(), inputs: [`${attn}.o_proj`], ...hidden },
    { ...own(".post_attention_layernorm.input", "attention", "stream"), op: add(), inputs: [stream, attn], ...hidden },
    {
      ...own(".post_attention_layernorm", "mlp", "norm"),
      op: rmsNorm({ weight: `${path}.post_attention_layernorm.weight`, epsilon, width: hiddenSize }),
      inputs: [`${path}.post_attention_layernorm.input`],
      ...hidden,
    },
    {
      ...inMlp("gate_proj", "gate"),
      op: project(`${mlp}.gate_proj`, config.mlpBias),
      inputs: [`${path}.post_attention_layernorm`],
      ...wide,
    },
    {
      ...inMlp("up_proj", "up"),
      op: project(`${mlp}.up_proj`, config.mlpBias),
      inputs: [`${path}.post_attention_layernorm`],
      ...wide,
    },
    { ...inMlp("act_fn", "activated"), op: activation(config.activation), inputs: [`${mlp}.gate_proj`], ...wide },
    { ...inMlp("down_proj.input", "gated"), op: multiply(), inputs: [`${mlp}.act_fn`, `${mlp}.up_proj`], ...wide },
    {
      ...inMlp("down_proj", "output"),
      op: project(`${mlp}.down_proj`, config.mlpBias),
      inputs: [`${mlp}.down_proj.input`],
      ...hidden,
    },
    { ...own(".mlp", "mlp", "branch"), op: identity(), inputs: [`${mlp}.down_proj`], ...hidden },
    { ...own("", "mlp", "stream"), op: add(), inputs: [`${path}.post_attention_layernorm.input`, mlp], ...hidden },
  );
  return nodes.map((node) => ({ ...node, layer }));
}
