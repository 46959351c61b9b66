import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { standardProgram } from "../../src/engine/program/standard-program.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import { generate } from "../../src/engine/serve/generation.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { decode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { SafetensorsFile } from "../../src/tensor/safetensors.js";

const folder = "test/golden/families";
const families = readdirSync(folder);
/** Whose layers the kernels of the GPU paths compute. */
const onDevices = new Set(["qwen2", "qwen3", "llama", "smollm2", "mistral", "smollm3", "olmo2", "olmo3", "granite"]);

/** Prompt and last row of logits of a family's float32 recording. */
function recorded(family: string): { prompt: number[]; logits: Float64Array } {
  const name = readdirSync(join(folder, family)).find((file) => file.startsWith("fp32"))!;
  const file = new SafetensorsFile(join(folder, family, name));
  const entry = file.entries.get("logits") ?? file.entry("lm_head");
  const values = decode(file.readBytes(entry), entry.dtype);
  const prompt = Array.from(decode(file.readBytes(file.entry("input_ids")), "int32"));
  file.close();
  return { prompt, logits: values.slice(-entry.shape.at(-1)!) };
}

describe.each(families)("%s", (family) => {
  const { config } = readModelConfig(join(folder, family));

  it("is continued by the reference path, in chunks and decodes, as transformers begins", async () => {
    const { prompt, logits } = recorded(family);
    const parameters = new Checkpoint(join(folder, family));
    const path = new ReferencePath({ config, parameters, pageCount: 16, pageSize: 4 });
    const request = { tokenIds: prompt, maxTokens: 4 };
    const [whole] = await generate(path, [request]);
    const [pieces] = await generate(path, [request], { chunk: 7 });
    expect(whole!.tokenIds[0]).toBe(logits.indexOf(Math.max(...logits)));
    expect(pieces!.tokenIds).toEqual(whole!.tokenIds);
    parameters.close();
  });

  it("runs on a device where its layer is one that kernels compute, else is refused in one sentence", () => {
    const program = () => standardProgram(decoderGraph(config));
    if (onDevices.has(family)) expect(program().length).toBeGreaterThan(20);
    else {
      expect(program).toThrow(InputError);
      expect(program).toThrow(/^[^\n]+: the GPU paths have no kernel for [^\n]+$/);
    }
  });
});
