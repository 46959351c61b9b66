import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { specName } from "../../src/spec/families/execution-order.js";
import { families } from "../../src/spec/families/registry.js";
import { unpackedBytes } from "../../src/spec/families/unpacked-parameters.js";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { declareDecoder, declaredParameters, decoderGraph, expectedParameters } from "../../src/spec/models/decoder.js";
import { roleOf } from "../../src/spec/site.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { decode } from "../../src/tensor/dtype.js";

const small = {
  hidden_size: 32,
  intermediate_size: 24,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 10,
  rms_norm_eps: 1e-6,
};
const read = (modelType: string, more = {}) => parseModelConfig({ ...small, ...more, model_type: modelType }, "c.json");
const mixture = { num_experts: 4, num_experts_per_tok: 2, shared_expert_intermediate_size: 16 };
const dense = ["qwen3", "qwen2", "llama", "smollm2", "mistral", "gemma2", "gemma3_text", "phi3", "smollm3", "olmo2"];

describe.each([...dense, "olmo3", "granite"])("the decoder of %s", (modelType) => {
  const config = read(modelType);
  const graph = decoderGraph(config);

  it("has sites that are one to one with its values, and roles that repeat from layer to layer", () => {
    for (const node of graph.nodes.values()) {
      expect(graph.at(node.site)).toBe(node);
      if (node.layer === undefined) continue;
      expect(roleOf(graph.inLayer(node, 0)!)).toBe(roleOf(node));
    }
    expect(graph.isComputable("sample")).toBe(true);
  });

  it("reads parameters that it declares, all of them", () => {
    const declared = new Set(declareDecoder(config).parameters.map(({ name }) => name));
    const used = [...graph.nodes.values()].flatMap(({ op }) => [op.attributes.weight, op.attributes.bias]);
    expect(new Set(used.filter((name) => name !== undefined))).toEqual(declared);
  });
});

describe("config.json of the families", () => {
  it("of another model_type is refused with the list of those there are", () => {
    expect(() => read("gpt2")).toThrow(families.flatMap(({ modelTypes }) => modelTypes).join(", "));
  });

  it.each([
    ["gemma2", { use_bidirectional_attention: true }, /use_bidirectional_attention: only attention to earlier tokens/],
    ["gemma2", { attn_logit_softcapping: -1 }, /attn_logit_softcapping/],
    ["smollm3", { no_rope_layers: [1, 0] }, /no_rope_layers: expected an entry for each of 3 layers, found 2/],
    ["phi3", { rope_scaling: { rope_type: "longrope", short_factor: [1] } }, /short_factor: expected 4 factors/],
    ["granite", { logits_scaling: 0 }, /logits_scaling/],
  ])("of %s is refused with %j", (modelType, change, message) => {
    expect(() => read(modelType, change)).toThrow(message);
  });

  it("says which layers slide, and how they rotate", () => {
    const windows = (modelType: string, more = {}) =>
      [0, 1, 2].map(read(modelType, { sliding_window: 5, ...more }).windowLeft);
    expect(windows("mistral")).toEqual([4, 4, 4]);
    expect(windows("gemma2")).toEqual([4, undefined, 4]);
    expect(windows("llama")).toEqual([undefined, undefined, undefined]);
    expect(windows("qwen2_moe", { ...mixture, use_sliding_window: true, max_window_layers: 2 })).toEqual([
      4,
      undefined,
      undefined,
    ]);
    expect(windows("qwen3_moe", { ...mixture, use_sliding_window: true, max_window_layers: 2 })).toEqual([4, 4, 4]);
    const gemma = read("gemma3_text", {
      head_dim: 8,
      sliding_window_pattern: 2,
      rope_theta: 1e6,
      rope_local_base_freq: 100,
    });
    expect([0, 1].map((layer) => gemma.rotary(layer)!.inverseFrequencies[1])).toEqual([100 ** -0.25, 1e6 ** -0.25]);
    const smol = read("smollm3", { no_rope_layer_interval: 2 });
    expect([0, 1, 2].map((layer) => smol.rotary(layer) !== undefined)).toEqual([true, false, true]);
  });
});

describe("fields that a config.json leaves out, as transformers fills them in", () => {
  const firstWindow = (modelType: string, more = {}) => read(modelType, more).windowLeft(0);

  it("are windows off where there is a switch, else of the family's size; null is none", () => {
    for (const modelType of ["qwen2", "qwen3"]) {
      expect(firstWindow(modelType, { sliding_window: 5 })).toBeUndefined();
      expect(firstWindow(modelType, { sliding_window: 5, use_sliding_window: true })).toBeUndefined();
      expect(firstWindow(modelType, { use_sliding_window: true, max_window_layers: 0 })).toBe(4095);
    }
    expect(["mistral", "gemma2", "gemma3_text", "olmo3"].map((type) => firstWindow(type))).toEqual(Array(4).fill(4095));
    expect(firstWindow("gpt_oss", mixture)).toBe(127);
    expect(firstWindow("mistral", { sliding_window: null })).toBeUndefined();
  });

  it("are caps, head sizes and the base of RoPE", () => {
    expect(read("gemma2")).toMatchObject({ attentionSoftCap: 50, logitSoftCap: 30, headDim: 256 });
    expect(read("gemma2", { final_logit_softcapping: null }).logitSoftCap).toBeUndefined();
    expect(read("qwen3").headDim).toBe(128);
    expect(read("qwen3", { head_dim: null }).headDim).toBe(8);
    expect(read("mistral", { num_attention_heads: 8, num_key_value_heads: undefined }).keyValueHeadCount).toBe(8);
    expect(["mixtral", "gpt_oss"].map((type) => read(type, mixture).ropeTheta)).toEqual([1e6, 150000]);
    expect(read("smollm3").ropeTheta).toBe(2e6);
    expect(read("gpt_oss", mixture).ropeAttentionFactor).toBeCloseTo(0.1 * Math.log(32) + 1, 12);
  });

  it("of Phi's long RoPE: the length of the config goes before that of the RoPE itself", () => {
    const long = { rope_type: "longrope", short_factor: [1, 1, 1, 1], long_factor: [2, 2, 2, 2] };
    const beyond = (more: object) =>
      read("phi3", { rope_parameters: { ...long, original_max_position_embeddings: 64 }, ...more }).rotary(0)!.beyond!
        .positions;
    expect(beyond({})).toBe(4096);
    expect(beyond({ original_max_position_embeddings: 32 })).toBe(32);
    expect(beyond({ original_max_position_embeddings: null })).toBe(64);
  });
});

describe("packed projections", () => {
  const folder = "test/golden/families/phi3";
  const { config } = readModelConfig(folder);
  const checkpoint = new Checkpoint(folder);
  const name = "model.layers.1.self_attn.v_proj.weight";
  const { columns } = decoderGraph(config).node("model.layers.1.self_attn.v_proj");

  it("are one parameter of the checkpoint and are read one by one", () => {
    expect(expectedParameters(config).has(name)).toBe(false);
    const parameters = declaredParameters(config, checkpoint);
    const whole = "model.layers.1.self_attn.qkv_proj.weight";
    const [rows, width] = checkpoint.shape(whole)!;
    const expected = checkpoint.rows(whole, rows! - columns, columns);
    expect(parameters.shape(name)).toEqual([columns, width]);
    expect(parameters.rows(name, 0, columns)).toEqual(expected);
    expect(parameters.rows(name, 3, 2)).toEqual(expected.subarray(3 * width!, 5 * width!));
    expect([...parameters.names()]).not.toContain(whole);
    const bytes = unpackedBytes(declareDecoder(config).parameters, checkpoint);
    expect(Array.from(decode(bytes.bytes(name), "bfloat16"))).toEqual(Array.from(expected));
    expect(bytes.entry(name)!.shape).toEqual([columns, width]);
  });

  it("are one tensor of a recording and three values of the spec", () => {
    const capture = openCapture(join(folder, "bf16_eager.safetensors"));
    const observations = new CaptureObservations(capture, decoderGraph(config));
    const packed = capture.records.find((record) => record.name === "model.layers.1.self_attn.qkv_proj")!;
    expect(packed).toBeDefined();
    for (const part of ["q_proj", "k_proj", "v_proj"])
      expect(observations.has(`model.layers.1.self_attn.${part}`)).toBe(true);
    expect(observations.outputRows("model.layers.1.self_attn.v_proj")).toHaveLength(20);
    capture.close();
  });
});

it("names that a wrapper put its own before are those of the spec", () => {
  expect(specName("module.layers.3.mlp")).toBe("model.layers.3.mlp");
});
