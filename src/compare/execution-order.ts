import { parseModelConfig } from "../spec/models/config.js";
import { decoderGraph } from "../spec/models/decoder.js";

/** A decoder of one layer with every value the spec knows: its names give the order of any decoder's values. */
const pattern = {
  model_type: "qwen3",
  hidden_size: 2,
  intermediate_size: 2,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  vocab_size: 2,
  rms_norm_eps: 0,
};

let ranks: Map<string, number> | undefined;

function rankOf(name: string): number | undefined {
  if (!ranks) {
    const names = decoderGraph(parseModelConfig(pattern, "pattern")).nodes.keys();
    ranks = new Map([...names].map((value, rank) => [value, rank]));
  }
  return ranks.get(name);
}

/**
 * Order of execution of two value names, for recordings that keep none: by layer, within a layer as the spec computes
 * them, names the spec does not know after the known ones of their layer.
 */
export function compareExecution(a: string, b: string): number {
  const left = keyOf(a);
  const right = keyOf(b);
  for (let k = 0; k < left.length; k++) if (left[k] !== right[k]) return left[k]! - right[k]!;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** [before, in or after the layers; layer; rank] */
function keyOf(name: string): [number, number, number] {
  const layer = /^model\.layers\.(\d+)(\..*)?$/.exec(name);
  const rank = rankOf(layer ? `model.layers.0${layer[2] ?? ""}` : name);
  if (layer) return [1, Number(layer[1]), rank ?? Infinity];
  return [rank === 0 ? 0 : 2, 0, rank ?? Infinity];
}

/** The name the spec uses, where a wrapper put its own before it or the inner model was recorded without `model.`. */
export function specName(name: string): string {
  const bare = name.replace(/^(?:module\.)+/, "").replaceAll("_orig_mod.", "");
  return /^(?:layers\.\d+|embed_tokens|norm)(?:\.|$)/.test(bare) ? `model.${bare}` : bare;
}
