import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { create } from "webgpu";
import { batchHeader } from "../../src/engine/device/batch-buffer.js";
import { parameterBlock } from "../../src/engine/device/parameter-block.js";
import { kernelSource } from "../../src/engine/webgpu/kernel-source.js";
import { specialise } from "../../src/engine/webgpu/specialise.js";
import { wgslStruct } from "../../src/engine/webgpu/struct.js";

describe("kernel text", () => {
  test("constants are replaced, unknown ones and missing ones are errors", () => {
    const file = "enable f16;\noverride A: u32;\noverride B: bool = false;\nfn f() {}";
    const text = specialise({ name: "k", constants: { A: 3 } }, [file]);
    expect(text).toContain("const A: u32 = 3u;");
    expect(text).toContain("const B: bool = false;");
    expect(text.startsWith("enable f16;")).toBe(true);
    expect(() => specialise({ name: "k" }, [file])).toThrow("constant A has no value");
    expect(() => specialise({ name: "k", constants: { A: 1, C: 2 } }, [file])).toThrow("no constant C");
  });

  test("marked loops are unrolled, or kept with values for constants", () => {
    const file = [
      "override N: u32;",
      "fn f() {",
      "  const outside = 1u;",
      "  for (var i = 0u; i < N; i++) { // unroll",
      "    const twice = 2u * i;",
      "    g(twice);",
      "  }",
      "  const after = 2u;",
      "}",
    ].join("\n");
    const request = { name: "k", constants: { N: 2 } };
    const unrolled = specialise(request, [file]);
    expect(unrolled.match(/const twice/g)).toHaveLength(2);
    expect(unrolled).toContain("const i = 1u;");
    expect(unrolled).not.toContain("for (");
    const braces = file.replace("    g(twice);\n  }", "    // not a brace: }\n  if (N > 1u) { g(twice); } }");
    expect(specialise(request, [braces]).match(/if \(N/g)).toHaveLength(2);
    const kept = specialise(request, [file], false);
    expect(kept).toContain("let twice = 2u * i;");
    expect(kept).toContain("const outside");
    expect(kept).toContain("const after");
  });

  test("a parameter block packs what its struct declares", () => {
    const block = parameterBlock("P", { a: "u32", b: "i32", c: "f32" });
    expect(wgslStruct(block)).toContain("a: u32,\n  b: i32,\n  c: f32,");
    const view = new DataView(block.pack({ a: 7, b: -1, c: 0.5 }).buffer);
    expect([view.getUint32(0, true), view.getInt32(4, true), view.getFloat32(8, true)]).toEqual([7, -1, 0.5]);
    expect(block.byteLength).toBe(16);
    expect(() => block.pack({ a: -1, b: 0, c: 0 })).toThrow("P.a: -1 is not a u32");
  });
});

/** No device of the tests has tensor cores; Dawn's null back end has every feature, compiles, and runs nothing. */
describe("the kernel for tensor cores", () => {
  // Dawn's binding runs on it: it must stay reachable.
  let gpu: GPU;
  let device: GPUDevice;
  beforeAll(async () => {
    gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
    const adapter = await gpu.requestAdapter();
    const features = ["subgroups", "shader-f16", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
    device = await adapter!.requestDevice({ requiredFeatures: features });
  });
  afterAll(() => device.destroy());

  async function problems(constants: Record<string, number | boolean>, change = (code: string) => code) {
    const names = ["elements", "silu", "tile", "gemm-matrix"];
    const files = await Promise.all(names.map(kernelSource));
    const code = change(specialise({ name: "gemm-matrix", blocks: [batchHeader], constants }, files));
    device.pushErrorScope("validation");
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    await device.popErrorScope();
    return messages.filter(({ type }) => type === "error").map(({ message }) => message);
  }

  test.each([
    { DOWN: 4, BIAS: true },
    { DOWN: 2, RESIDUAL: true, WEIGHT_FORMAT: 1 },
    { DOWN: 4, GATED: true, BIAS: true },
  ])("compiles with %o", async (constants) => {
    expect(await problems({ K: 1024, N: 3072, OUTPUT_STRIDE: 3072, ...constants })).toEqual([]);
  });

  test("would not compile with a name that is not there", async () => {
    const broken = (code: string) =>
      code.replaceAll("store_product", "store_nothing").replace("fn store_nothing", "fn f");
    const found = await problems({ K: 1024, N: 3072, OUTPUT_STRIDE: 3072 }, broken);
    expect(found.join()).toContain("store_nothing");
  });
});
