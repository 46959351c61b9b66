import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encode } from "../tensor/dtype.js";
import { type TensorBytes, writeSafetensors } from "../tensor/safetensors.js";
import { type LabModel, openLabModel } from "./model.js";
import { type CodecId, weightCodecs } from "./weight-codecs.js";

/** Weights that quantised checkpoints keep in narrow numbers: the projections of layers. */
const projection = /\.layers\.\d+\.(self_attn|mlp|mlp\.experts\.\d+)\.\w+_proj\.weight$/;

/** Writes a model once more, in the new folder `directory`, with the projections of its layers in a weight format. */
export function writeQuantisedModel(source: LabModel, directory: string, codec: CodecId): LabModel {
  const { config, keep } = weightCodecs[codec];
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "config.json"), JSON.stringify({ ...source.json, quantization_config: config }));
  const tensors: TensorBytes[] = [];
  for (const name of source.parameters.names()) {
    const shape = source.parameters.shape(name)!;
    const values = source.parameters.rows(name, 0, shape.length < 2 ? 1 : shape[0]!);
    if (projection.test(name)) {
      const module = name.replace(/\.weight$/, "");
      const kept = keep(values, shape[0]!, shape[1]!);
      tensors.push(...kept.tensors.map((tensor) => ({ ...tensor, name: `${module}${tensor.name}` })));
    } else tensors.push({ name, dtype: "bfloat16", shape, bytes: encode(values, "bfloat16") });
  }
  writeSafetensors(join(directory, "model.safetensors"), tensors);
  return openLabModel(directory);
}
