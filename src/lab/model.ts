import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { ModelParameters } from "../spec/formats/model-parameters.js";
import { quantisedProducts } from "../spec/formats/products.js";
import type { Graph } from "../spec/graph.js";
import { type ModelConfig, parseModelConfig } from "../spec/models/config.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { decoderGraph } from "../spec/models/decoder.js";
import { InputError } from "../tensor/errors.js";

/** A model folder, opened once for many runs. */
export interface LabModel {
  readonly directory: string;
  readonly config: ModelConfig;
  readonly json: Record<string, unknown>;
  readonly graph: Graph;
  readonly parameters: ModelParameters;
}

/** @throws InputError when the folder holds no model of the spec. */
export function openLabModel(directory: string): LabModel {
  const { config, json } = readModelConfig(directory);
  const parameters = new ModelParameters(directory);
  return { directory, config, json, graph: quantisedProducts(decoderGraph(config), parameters), parameters };
}

/**
 * Makes, in the new folder `target`, a model of the first `layers` layers of `source`: the same weights by link, fewer layers in its config.
 * @throws InputError when the target exists or the source has fewer layers.
 */
export function truncateModel(source: string, layers: number, target: string): LabModel {
  const { config, json } = readModelConfig(source);
  if (layers < 1 || layers > config.layerCount) {
    throw new InputError(`${source}: layers: expected 1 to ${config.layerCount}, found ${layers}`);
  }
  if (existsSync(target)) throw new InputError(`${target}: expected a folder that does not exist yet`);
  const shorter: Record<string, unknown> = { ...json, num_hidden_layers: layers };
  if (Array.isArray(json.layer_types)) shorter.layer_types = json.layer_types.slice(0, layers);
  parseModelConfig(shorter, join(target, "config.json"));
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, "config.json"), JSON.stringify(shorter));
  for (const name of readdirSync(source)) {
    if (/\.safetensors$|\.index\.json$|^tokenizer/.test(name)) symlinkSync(resolve(source, name), join(target, name));
  }
  return openLabModel(target);
}
