import { Tokenizer } from "../../src/engine/text/tokenizer.js";
import { type ModelConfig, parseModelConfig } from "../../src/spec/models/config.js";
import { FetchedCheckpoint } from "./fetched-checkpoint.js";

export interface FetchedModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly checkpoint: FetchedCheckpoint;
}

/** Loads a model folder from the page's own server. */
export async function fetchModel(folder: string): Promise<FetchedModel> {
  const [config, tokenizer, tokenizerConfig, weights] = await Promise.all([
    fetchJson(`${folder}/config.json`),
    fetchJson(`${folder}/tokenizer.json`),
    fetchJson(`${folder}/tokenizer_config.json`),
    fetchBytes(`${folder}/model.safetensors`),
  ]);
  return {
    config: parseModelConfig(config, `${folder}/config.json`),
    tokenizer: new Tokenizer(tokenizer, tokenizerConfig, `${folder}/tokenizer.json`),
    checkpoint: new FetchedCheckpoint(`${folder}/model.safetensors`, weights),
  };
}

async function fetchFile(address: string): Promise<Response> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
  return response;
}

async function fetchJson(address: string): Promise<object> {
  return (await fetchFile(address)).json();
}

async function fetchBytes(address: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetchFile(address)).arrayBuffer());
}
