import { InputError } from "../../tensor/errors.js";
import { declareDecoder } from "../models/decoder.js";
import { families } from "./registry.js";

/** A decoder of one layer: its names give the order of any decoder's values. */
const pattern = {
  hidden_size: 2,
  intermediate_size: 2,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  vocab_size: 2,
  rms_norm_eps: 0,
};

/** Names of all families' values, each behind the one that its own family computes before it. */
function namesInOrder(): string[] {
  const order: string[] = [];
  for (const { read, modelTypes } of families) {
    const [first] = modelTypes;
    let at = -1;
    for (const name of namesOf(() => read({ ...pattern, model_type: first }, "pattern"))) {
      const known = order.indexOf(name);
      at = known < 0 ? at + 1 : known;
      if (known < 0) order.splice(at, 0, name);
    }
  }
  return order;
}

/** Values of a family that needs no more fields than the pattern's; of others, the families before them know most. */
function namesOf(read: () => Parameters<typeof declareDecoder>[0]): string[] {
  try {
    return declareDecoder(read()).nodes.map(({ name }) => name);
  } catch (error) {
    if (error instanceof InputError) return [];
    throw error;
  }
}

let ranks: Map<string, number> | undefined;

function rankOf(name: string): number | undefined {
  ranks ??= new Map(namesInOrder().map((value, rank) => [value, rank]));
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
  const behind = rank === undefined || rank > rankOf("model.layers.0")!;
  return [behind ? 2 : 0, 0, rank ?? Infinity];
}

/** The name the spec uses, where a wrapper put its own before it or the inner model was recorded without `model.`. */
export function specName(name: string): string {
  const bare = name.replace(/^(?:module\.)+/, "").replaceAll("_orig_mod.", "");
  return /^(?:layers\.\d+|embed_tokens|norm)(?:\.|$)/.test(bare) ? `model.${bare}` : bare;
}
