import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import { Generation, generate } from "../../src/engine/serve/generation.js";
import { Recording } from "../../src/engine/serve/recording.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { Checkpoint, type ParameterReader } from "../../src/tensor/checkpoint.js";
import { decode } from "../../src/tensor/dtype.js";
import { SafetensorsFile } from "../../src/tensor/safetensors.js";
import { temporaryFolder } from "../lab/folder.js";

const folder = temporaryFolder();
const golden = "test/golden/moe";

/** Prompts and logits [prompts, tokens, vocabulary] of a family's float32 recording. */
function recorded(family: string) {
  const file = new SafetensorsFile(join(golden, family, "fp32-eager-eager.safetensors"));
  const read = (name: string) => decode(file.readBytes(file.entry(name)), file.entry(name).dtype);
  const [count, length, vocabulary] = file.entry("lm_head").shape as [number, number, number];
  const ids = read("input_ids");
  const logits = read("lm_head");
  file.close();
  return Array.from({ length: count }, (_, b) => ({
    prompt: Array.from(ids.slice(b * length, (b + 1) * length)),
    last: logits.slice(((b + 1) * length - 1) * vocabulary, (b + 1) * length * vocabulary),
  }));
}

describe.each(["qwen3_moe", "qwen2_moe", "mixtral", "gpt_oss", "glm4_moe"])("%s on the reference path", (family) => {
  const model = join(golden, family);
  const { config, json } = readModelConfig(model);

  it("continues prompts as Hugging Face does, whole or in chunks", async () => {
    const parameters = new Checkpoint(model);
    const path = new ReferencePath({ config, parameters, pageCount: 32, pageSize: 4 });
    const prompts = recorded(family);
    const requests = prompts.map(({ prompt }) => ({ tokenIds: prompt, maxTokens: 4 }));
    const whole = await generate(path, requests);
    const pieces = await generate(path, requests, { chunk: 3 });
    prompts.forEach(({ last }, b) => {
      expect(whole[b]!.tokenIds[0]).toBe(last.indexOf(Math.max(...last)));
      expect(pieces[b]!.tokenIds).toEqual(whole[b]!.tokenIds);
    });
    parameters.close();
  });

  it.each(["bfloat16", "float32"] as const)("recorded in %s, chunks and decodes, is clean", async (dtype) => {
    const parameters = new Checkpoint(model);
    const target = join(folder, `${family} ${dtype}`);
    const path = new ReferencePath({ config, parameters, pageCount: 12, pageSize: 4, dtype });
    const runtime = { name: "faultline reference", device: "cpu", dtype };
    const recorder = new Recording(target, { model: json, runtime });
    const generation = new Generation(path, { chunk: 5, recorder });
    for (const { prompt } of recorded(family)) generation.add({ tokenIds: prompt, maxTokens: 4 });
    await generation.run();
    const verdict = await diagnose({ target, model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expect(verdict.unchecked).toEqual([]);
    parameters.close();
  });
});

describe("a row of a mixture", () => {
  it("reads no expert that it did not choose", async () => {
    const model = join(golden, "qwen3_moe");
    const { config } = readModelConfig(model);
    const checkpoint = new Checkpoint(model);
    const read = new Set<string>();
    const parameters: ParameterReader = {
      names: () => checkpoint.names(),
      shape: (name) => checkpoint.shape(name),
      rows(name, first, count) {
        if (name.includes(".experts.")) read.add(name.replace(/\.\w+_proj\.weight$/, ""));
        return checkpoint.rows(name, first, count);
      },
    };
    const path = new ReferencePath({ config, parameters, pageCount: 2, pageSize: 4 });
    await generate(path, [{ tokenIds: [7], maxTokens: 1 }]);
    // Two layers of three choose three of eight experts for one token.
    expect(read.size).toBe(6);
    checkpoint.close();
  });
});
