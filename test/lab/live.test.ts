import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { withJudged } from "../../src/diagnose/street.js";
import { type OpenedEngine, openEngine } from "../../src/engine/serve/open-path.js";
import { Recording } from "../../src/engine/serve/recording.js";
import { causesAsPatch } from "../../src/lab/live/causes.js";
import { exclamationMark, liveFaults } from "../../src/lab/live/faults.js";
import { type LiveSource, runLive } from "../../src/lab/live/live-run.js";
import { parseSettings } from "../../src/lab/live/parse-settings.js";
import { type SettingEffect, sweep } from "../../src/lab/live/sweep.js";
import type { LabModel } from "../../src/lab/model.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { RoundedArithmetic } from "../../src/spec/arithmetic.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
let model: LabModel;
let engine: OpenedEngine;
let source: LiveSource;
beforeAll(async () => {
  model = writeTinyModel(join(folder, "model"));
  const { config, parameters } = model;
  const pages = { pageCount: 4, pageSize: 8 };
  const arithmetic = new RoundedArithmetic({ block: 32, reversed: false });
  engine = await openEngine("reference", { config, checkpoint: parameters, arithmetic, ...pages });
  const tokenIds = [5, 17, 300, 4, 9, 77, 120];
  source = { engine, config, parameters, tokenIds, maxTokens: 3, endTokens: [] };
});
afterAll(() => engine.close());

async function effects(texts: readonly string[], faults = liveFaults("exclamation-mark").slice(0, 0)) {
  const settings = texts.flatMap((text) => parseSettings(text, model.config, faults));
  const found: SettingEffect[] = [];
  for await (const effect of sweep(source, settings)) found.push(effect);
  return found;
}

describe("a sweep of a running engine", () => {
  it("changes nothing with a factor of 1, and from the value on that another factor is put on", async () => {
    const [one, tenth] = await effects(["layers.1.k_scale=1,0.1"]);
    expect(one).toMatchObject({ setting: "layers.1.k_scale=1", values: { changed: 0 }, first: null, sameText: true });
    expect(tenth!.first).toMatchObject({ value: "model.layers.1.self_attn.k_rope", changed: tenth!.first!.of });
    expect(tenth!.first!.largest.with / tenth!.first!.largest.without).toBeCloseTo(0.1, 5);
    expect(tenth!.layers[0]).toMatchObject({ layer: 0, changed: 0, elements: { changed: 0 } });
    expect(tenth!.layers[1]!.changed).toBeGreaterThan(0);
  });

  it.each([
    ["layers.0.q_scale=2", "model.layers.0.self_attn.q_rope"],
    ["layers.1.v_scale=2", "model.layers.1.self_attn.v_proj"],
    ["layers.1.attention_scale=0.5", "model.layers.1.self_attn.o_proj.input"],
    ["layers.0.attention=off", "model.layers.0.post_attention_layernorm.input"],
    ["layers.1.mlp=off", "model.layers.1"],
    ["layers.0=off", "model.layers.0"],
    ["layers.*.mlp.down_proj.scale=3", "model.layers.0.mlp.down_proj"],
    ["model.norm.scale=3;layers.1.k_scale=1", "model.norm"],
    ["faults.I63-residual-doubled@1=on", "model.layers.1"],
    ["faults.C5-embedding-scaled=on", "model.embed_tokens"],
  ])("finds where %s begins", async (text, first) => {
    const [effect] = await effects([text]);
    expect(effect!.first?.value).toMatch(new RegExp(`^${first.replaceAll(".", "\\.")}(\\.|$)`));
  });

  it("sees no difference in what is rounding: the spec in place of the spec", async () => {
    const [effect] = await effects(["layers.*.self_attn.*=reference"]);
    expect(effect).toMatchObject({ first: null, sameText: true });
  });

  it("takes faults out of the running path", async () => {
    const faults = liveFaults("exclamation-mark");
    const [all, one] = await effects(["faults.*=off", "faults.residual-dropped=off"], [...faults]);
    const healthy = await runLive(source, []);
    expect(all!.tokenIds).toEqual({ without: [0, 0, 0], with: healthy.tokenIds });
    expect(all!.first?.value).toBe("model.embed_tokens");
    expect(one!.first?.value).toBe("model.layers.0.post_attention_layernorm.input");
    const stream = all!.layers.map(({ largest }) => largest.without);
    expect(stream[1]).toBeGreaterThan(1e27);
    expect(stream.slice(2).every((largest) => largest === 0)).toBe(true);
  });

  it("is proven: the causes found in a run of it, put into a healthy one, make the same run", async () => {
    const path = join(folder, "run");
    const wants = (name: string) => model.graph.find(name) !== undefined;
    const runtime = { name: "test", device: "cpu", dtype: "float32" };
    const faults = exclamationMark.slice(0, 2);
    const faulty = await runLive(source, faults, new Recording(path, { model: model.json, runtime, wants }));
    const healthy = await runLive(source, []);
    expect(faulty.tokenIds).not.toEqual(healthy.tokenIds);
    await withJudged({ target: path, model: model.directory }, async ({ causes, verdict }) => {
      expect(verdict.causes.map(({ cause }) => cause).sort()).toEqual(["embedding-scaled", "residual-dropped"]);
      expect((await runLive(source, [causesAsPatch(causes)])).tokenIds).toEqual(faulty.tokenIds);
    });
  });
});

describe("a setting", () => {
  it.each([
    ["layers.*.k_scale", /expected PATTERN=VALUE/],
    ["=1", /expected PATTERN=VALUE/],
    ["layers.*.k_scale=1,,2", /expected PATTERN=VALUE/],
    ["layers.9.k_scale=1", /layers "9": expected \*, a number or a range/],
    ["layers.2-1.k_scale=1", /layers "2-1": expected/],
    ["layers.*.k_scale=off", /expected a number that float32 holds, found "off"/],
    ["layers.*.k_scale=1e40", /expected a number that float32 holds/],
    ["layers.0=reference", /expected off/],
    ["layers.*.kscale=1", /expected a pattern that something matches, found none; faultline sweep --help/],
    ["model.layers.*.nothing.scale=2", /found none/],
    ["layers.*.self_attn.k_cache=reference", /found none/],
    ["lm_head=off", /expected reference, or lm_head.scale=FACTOR/],
    ["fusions.nothing=off", /expected one of the fusions projection, rotary/],
    ["fusions.rotary=on", /expected off/],
    ["faults.residual-dropped=off", /expected a fault that is in the path, which are none/],
    ["faults.nothing=on", /fault "nothing": expected an id that lab list prints/],
    ["faults.I63-residual-doubled=on", /expected the layers it is put into/],
    ["faults.C5-embedding-scaled@0=on", /expected no layers/],
    ["\u001b[31mred=1", /--set "\\u001b\[31mred=1"/],
    [Array.from({ length: 4 }, () => `lm_head.scale=${"2,".repeat(9)}2`).join(";"), /at most 1000 settings/],
  ])("is refused in a sentence: %j", (text, sentence) => {
    expect(() => parseSettings(text, model.config, [])).toThrow(sentence);
  });

  it("of several clauses has every value of one with every value of the others", () => {
    const settings = parseSettings("layers.0.k_scale=1,2; layers.1=off; lm_head.scale=3,4", model.config, []);
    expect(settings.map(({ title }) => title)).toEqual([
      "layers.0.k_scale=1; layers.1=off; lm_head.scale=3",
      "layers.0.k_scale=1; layers.1=off; lm_head.scale=4",
      "layers.0.k_scale=2; layers.1=off; lm_head.scale=3",
      "layers.0.k_scale=2; layers.1=off; lm_head.scale=4",
    ]);
  });

  it("puts no fault of a recording into a run", async () => {
    const [fault] = liveFaults("I50-last-page-length");
    await expect(runLive(source, [fault!])).rejects.toThrow(/expected one of the run itself/);
  });
});
