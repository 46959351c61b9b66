import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ModelParameters } from "../../../src/spec/formats/model-parameters.js";
import { matchesModule } from "../../../src/spec/formats/module-names.js";
import { quantised } from "../../../src/spec/ops/quantised.js";
import { roundTo } from "../../../src/tensor/dtype.js";
import { InputError } from "../../../src/tensor/errors.js";
import { narrowFormats } from "../../../src/tensor/narrow-format.js";
import type { Quantisation } from "../../../src/tensor/quantisation.js";
import { roundAll } from "../../../src/tensor/rounding.js";
import { evaluateOp, normal } from "../single-op.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-operands-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Json = Record<string, unknown>;

/** The operands of a golden checkpoint's parameter, its config changed. */
function operandsOf(golden: string, name: string, change: (config: Json) => void): readonly Quantisation[] {
  const copy = mkdtempSync(join(folder, "model-"));
  cpSync(golden, copy, { recursive: true });
  const path = join(copy, "config.json");
  const json = JSON.parse(readFileSync(path, "utf8")) as { quantization_config: Json };
  change(json.quantization_config);
  writeFileSync(path, JSON.stringify(json));
  const parameters = new ModelParameters(copy);
  try {
    return parameters.quantised(name)!.operands;
  } finally {
    parameters.close();
  }
}

const formats = "test/golden/formats";
const ranked = "test/golden/quantised-ranks";
const inputs = (numbers: Json) => (config: Json) => {
  for (const group of Object.values(config.config_groups as Record<string, Json>)) group.input_activations = numbers;
};
const four = { num_bits: 4, type: "float" };
const eight = { num_bits: 8, type: "int" };

describe("operands as a config declares them", () => {
  it("are NVFP4's with the checkpoint's global scale", () => {
    const [only, ...others] = operandsOf(`${ranked}/nvfp4`, "model.layers.0.mlp.up_proj.weight", () => {});
    expect(others).toEqual([]);
    expect(only).toMatchObject({ scaleType: "e4m3", tile: { rows: 1, columns: 16 }, global: Math.fround(2688 / 11) });
    expect(only!.format.id).toBe("fp4");
  });

  it("are MXFP4's with a power of two, however it is found", () => {
    const found = operandsOf(`${ranked}/mxfp4`, "model.layers.0.mlp.up_proj.weight", () => {});
    expect(found.map(({ scaleType }) => scaleType)).toEqual([
      "power-of-two-nearest",
      "power-of-two",
      "power-of-two-above",
    ]);
  });

  it("have powers of two beside plain scales where the config's scales are E8M0", () => {
    const of = (scale_fmt?: string) =>
      operandsOf(`${formats}/fp8-blocks`, "a.weight", (config) => Object.assign(config, { scale_fmt }));
    expect(of().map(({ scaleType }) => scaleType)).toEqual(["float32"]);
    expect(of("ue8m0").map(({ scaleType }) => scaleType)).toEqual(["float32", "power-of-two-above"]);
  });

  it("may have zero points in int8", () => {
    const found = operandsOf(
      `${formats}/int8`,
      "a.weight",
      inputs({ ...eight, strategy: "token", symmetric: false, dynamic: true }),
    );
    expect(found.map(({ scaling, aroundZero }) => [scaling, aroundZero])).toEqual([
      ["range", true],
      ["range", false],
    ]);
  });

  it("are those of the group that names the module, by name or pattern, else of its class", () => {
    const groups = (targets: Record<string, string[]>) => (config: Json) => {
      const [first] = Object.values(config.config_groups as Record<string, Json>);
      const group = (strategy: string, name: string) => ({
        ...first,
        targets: targets[name],
        input_activations: { num_bits: 8, type: "float", strategy, dynamic: true },
      });
      config.config_groups = { named: group("token", "named"), other: group("tensor", "other") };
    };
    const of = (name: string, targets: Record<string, string[]>) =>
      operandsOf(`${formats}/compressed-fp8`, name, groups(targets)).map(({ tile }) => tile.rows);
    expect(of("a.weight", { named: ["a"], other: ["Linear"] })).toEqual([1]);
    expect(of("b.weight", { named: ["a"], other: ["Linear"] })).toEqual([Infinity]);
    expect(of("b.weight", { named: ["re:[bc]$"], other: ["Linear"] })).toEqual([1]);
    expect(of("a.weight", { named: ["re:[bc]$"], other: ["Linear"] })).toEqual([Infinity]);
  });

  it.each([
    ["NVFP4 without its global scale", `${formats}/nvfp4`, { ...four, strategy: "tensor_group", group_size: 16 }],
    ["NVFP4 in groups of 32", `${formats}/nvfp4`, { ...four, strategy: "tensor_group", group_size: 32 }],
    ["4-bit floats per token", `${formats}/mxfp4`, { ...four, strategy: "token" }],
    ["integers of 4 bits", `${formats}/packed-integers`, { num_bits: 4, type: "int", strategy: "token" }],
    ["a fixed scale that is not there", `${formats}/int8`, { ...eight, strategy: "tensor", dynamic: false }],
    ["fixed zero points", `${formats}/int8`, { ...eight, strategy: "block", symmetric: false }],
  ])("that cannot be read are said so in a sentence: %s", (_, golden, numbers) => {
    const read = () => operandsOf(golden, "a.weight", inputs(numbers));
    expect(read).toThrow(InputError);
    expect(read).toThrow(
      /input_activations: expected 8-bit numbers per tensor|expected a tensor "\.input_(global_)?scale" beside it/,
    );
  });
});

describe("names of modules in a config", () => {
  it("are compared as Python's re.match does", () => {
    expect(matchesModule("lm_head", "lm_head", "f")).toBe(true);
    expect(matchesModule("lm_hea.", "lm_head", "f")).toBe(false);
    expect(matchesModule("re:.*self_attn", "model.layers.0.self_attn.q_proj", "f")).toBe(true);
    expect(matchesModule("re:self_attn", "model.layers.0.self_attn.q_proj", "f")).toBe(false);
    expect(matchesModule("re:(?!.*mlp).*_proj$", "model.layers.0.mlp.up_proj", "f")).toBe(false);
  });

  it.each([
    ["re:(", /f\.0: expected a regular expression after "re:", found "re:\("/],
    ["re:(a+)+$", /f\.0: expected a regular expression that ends after "re:", found/],
  ])("that are no pattern, or take forever, are refused: %s", (entry, expected) => {
    expect(() => matchesModule(entry, `${"a".repeat(64)}!`, "f.0")).toThrow(expected);
  });

  it("say that a module is plain which is stored in narrow numbers", () => {
    expect(() =>
      operandsOf(`${formats}/fp8-blocks`, "a.weight", (config) => Object.assign(config, { ignore: ["re:a$"] })),
    ).toThrow(/"a" is among the modules that are not quantised/);
  });
});

const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** The nearest number of e2m1, ties to the even code, as the public references spell it out. */
function nearestE2m1(x: number): number {
  const size = Math.abs(x);
  const bounds = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5];
  const code = bounds.filter((bound, i) => (i % 2 === 0 ? size > bound : size >= bound)).length;
  return Math.sign(x) * e2m1[code]!;
}

const columns = 64;
const values = normal(4 * columns, 5);
roundAll(values, "bfloat16");
// A tie between every two numbers, at a scale of 1.
[6, 0.25, -0.75, 1.25, -1.75, 2.5, -3.5, 5].forEach((x, i) => {
  values[i] = x;
});

function through(quantisation: Omit<Quantisation, "format" | "scaling">, width: number): Float64Array {
  const op = quantised({ ...quantisation, format: narrowFormats.fp4, scaling: "magnitude" });
  const { value } = evaluateOp({ op, inputs: [{ columns, values }], columns, noise: true });
  expect(width).toBe(quantisation.tile.columns);
  return value.map((x) => x + 0);
}

/** Every group of values under its own scale. */
function byGroup(width: number, scaleOf: (largest: number) => number): Float64Array {
  return values.map((x, i) => {
    const group = values.subarray(i - (i % width), i - (i % width) + width);
    const scale = scaleOf(Math.max(...group.map(Math.abs)));
    return Math.fround(nearestE2m1(Math.fround(x / scale)) * scale) + 0;
  });
}

describe("operands in 4-bit floats, written out", () => {
  it("NVFP4: scales in e4m3 under a global one", () => {
    const global = Math.fround(2688 / 7.3);
    const scale = (largest: number) =>
      Math.fround(roundTo(Math.min(448, Math.fround(global * Math.fround(largest / 6))), "float8_e4m3fn") / global);
    const tile = { rows: 1, columns: 16 };
    expect(through({ tile, scaleType: "e4m3", global }, 16)).toEqual(byGroup(16, scale));
  });

  it("NVFP4 as compressed-tensors fakes it: the quotient in the run's type, the rest in float32, stored at the end", () => {
    const global = Math.fround(2688 / 7.3);
    const scale = (largest: number) =>
      Math.fround(roundTo(Math.fround(global * roundTo(largest / 6, "bfloat16")), "float8_e4m3fn") / global);
    const expected = byGroup(16, scale);
    roundAll(expected, "bfloat16");
    const tile = { rows: 1, columns: 16 };
    expect(through({ tile, scaleType: "e4m3", global, arithmetic: "bfloat16" }, 16)).toEqual(expected);
  });

  const exponent = (x: number) => Math.floor(Math.log2(x));
  it.each([
    ["power-of-two", (largest: number) => 2 ** (exponent(largest) - 2)],
    [
      "power-of-two-nearest",
      (largest: number) => 2 ** (exponent(largest) + (largest / 2 ** exponent(largest) >= 1.75 ? 1 : 0) - 2),
    ],
    ["power-of-two-above", (largest: number) => 2 ** Math.ceil(Math.log2(largest / 6))],
  ] as const)("MXFP4: %s", (scaleType, scale) => {
    expect(through({ tile: { rows: 1, columns: 32 }, scaleType }, 32)).toEqual(byGroup(32, scale));
  });

  it("a scale on the border of two may have been either: its error covers the other", () => {
    // 17/16 · 2 lies in the middle of two numbers of e4m3.
    const row = new Float64Array(16).fill(1.3);
    row[0] = 6 * 2.125;
    const quantisation: Quantisation = {
      format: narrowFormats.fp4,
      scaling: "magnitude",
      tile: { rows: 1, columns: 16 },
      scaleType: "e4m3",
      global: 1,
    };
    const { variance } = evaluateOp({
      op: quantised(quantisation),
      inputs: [{ columns: 16, values: row }],
      columns: 16,
      noise: true,
      exact: true,
    });
    expect(Math.min(...variance)).toBeGreaterThan(0.01);
  });
});
