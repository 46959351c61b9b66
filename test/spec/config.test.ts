import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph, expectedParameters, outputWeight } from "../../src/spec/models/decoder.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { InputError } from "../../src/tensor/errors.js";
import { tinyConfig } from "../capture/tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-config-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const parse = (change: Record<string, unknown>) => parseModelConfig({ ...tinyConfig, ...change }, "config.json");

describe("config.json", () => {
  it("of Qwen3 has QK-norm, no biases and its own head_dim", () => {
    const config = parse({ head_dim: 64 });
    expect(config).toMatchObject({
      queryKeyNorm: true,
      queryKeyValueBias: false,
      outputBias: false,
      headDim: 64,
      tiedEmbeddings: true,
    });
    expect(decoderGraph(config).nodes.has("model.layers.1.self_attn.k_norm")).toBe(true);
    expect(expectedParameters(config).get("model.layers.0.self_attn.q_proj.weight")).toEqual([256, 16]);
    expect(outputWeight(config)).toBe("model.embed_tokens.weight");
  });

  it("of Qwen2 has biases on q, k and v alone, whatever attention_bias says", () => {
    const config = parse({ model_type: "qwen2", head_dim: null, attention_bias: true, tie_word_embeddings: false });
    expect(config).toMatchObject({ queryKeyNorm: false, queryKeyValueBias: true, outputBias: false, headDim: 4 });
    expect([...expectedParameters(config).keys()].filter((name) => name.endsWith("bias")).length).toBe(6);
    expect(decoderGraph(config).nodes.has("model.layers.1.self_attn.k_norm")).toBe(false);
    expect(outputWeight(config)).toBe("lm_head.weight");
  });

  it("of Llama has biases where it says so, and rope_scaling", () => {
    const llama3 = {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    };
    const config = parse({
      model_type: "llama",
      attention_bias: true,
      mlp_bias: true,
      rope_scaling: llama3,
      sliding_window: 8,
    });
    expect(config).toMatchObject({ queryKeyValueBias: true, outputBias: true, mlpBias: true });
    expect(config.inverseFrequencies[3]).toBeCloseTo(10000 ** (-3 / 4) / 8, 12);
    expect(config.windowLeft(0)).toBeUndefined();
  });

  it("takes rope_theta from either place, and key heads from query heads", () => {
    expect(parse({ rope_theta: undefined, rope_parameters: { rope_theta: 5e5, rope_type: "default" } }).ropeTheta).toBe(
      5e5,
    );
    expect(parse({ rope_theta: undefined }).ropeTheta).toBe(10000);
    expect(parse({ num_key_value_heads: undefined }).keyValueHeadCount).toBe(4);
    expect(parse({ torch_dtype: "float16", dtype: undefined }).dtype).toBe("float16");
    expect(parse({ eos_token_id: [1, 2] }).endTokens).toEqual([1, 2]);
    expect(parse({ eos_token_id: 3 }).endTokens).toEqual([3]);
  });

  it("gives a window to the layers that slide", () => {
    const qwen2 = parse({ model_type: "qwen2", sliding_window: 8, use_sliding_window: true, max_window_layers: 1 });
    expect([qwen2.windowLeft(0), qwen2.windowLeft(1)]).toEqual([undefined, 7]);
    const typed = parse({
      sliding_window: 8,
      use_sliding_window: true,
      layer_types: ["sliding_attention", "full_attention"],
    });
    expect([typed.windowLeft(0), typed.windowLeft(1)]).toEqual([7, undefined]);
    expect(parse({ sliding_window: 8, use_sliding_window: false }).windowLeft(1)).toBeUndefined();
  });

  it("agrees with the checkpoint of ishmael-7m, name by name and shape by shape", () => {
    const directory = new URL("../../models/ishmael-7m", import.meta.url).pathname;
    const { config } = readModelConfig(directory);
    const checkpoint = new Checkpoint(directory);
    const expected = expectedParameters(config);
    expect([...checkpoint.names()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, shape] of expected) expect(checkpoint.shape(name), name).toEqual(shape);
    checkpoint.close();
  });

  it.each([
    ["another architecture", { model_type: "gpt2" }, /model_type/],
    ["no hidden size", { hidden_size: undefined }, /hidden_size/],
    ["a negative size", { intermediate_size: -3 }, /intermediate_size/],
    ["a fractional layer count", { num_hidden_layers: 1.5 }, /num_hidden_layers/],
    ["a million layers", { num_hidden_layers: 1e6 }, /num_hidden_layers/],
    [
      "heads that do not divide",
      { num_key_value_heads: 3 },
      /num_attention_heads: 4 is not a multiple of num_key_value_heads 3/,
    ],
    ["an odd head_dim", { head_dim: 7 }, /head_dim: expected an even whole number, found 7/],
    ["an unknown activation", { hidden_act: "swoosh" }, /hidden_act: "swoosh" is not one of silu/],
    ["an activation named like a method", { hidden_act: "toString" }, /hidden_act/],
    ["partial rotation", { partial_rotary_factor: 0.1 }, /partial_rotary_factor/],
    ["an unknown rope type", { rope_scaling: { rope_type: "dynamic" } }, /rope_scaling\.rope_type/],
    ["epsilon that is text", { rms_norm_eps: "1e-6" }, /rms_norm_eps/],
  ])("is refused with %s", (_, change, expected) => {
    expect(() => parse(change)).toThrow(InputError);
    expect(() => parse(change)).toThrow(expected);
  });

  it("is refused where it is missing, no JSON or no object", () => {
    expect(() => readModelConfig(folder)).toThrow(/config\.json: .*cannot be read/);
    for (const text of ["{", "[]", "null", "7", ""]) {
      writeFileSync(join(folder, "config.json"), text);
      expect(() => readModelConfig(folder)).toThrow(InputError);
    }
  });
});
