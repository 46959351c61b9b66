import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { onePiece } from "../../src/capture/pieces.js";
import { openCapture } from "../../src/capture/reader.js";
import { TensorReader } from "../../src/capture/tensor-reader.js";
import { diagnoseCommand } from "../../src/cli/diagnose.js";
import { importCommand } from "../../src/cli/import.js";
import { namesCommand } from "../../src/cli/names.js";
import type { Verdict } from "../../src/diagnose/tell/verdict.js";
import type { DumpTensor } from "../../src/importers/dump.js";
import { openDump } from "../../src/importers/recording.js";
import { stepsOf } from "../../src/importers/steps.js";
import { InputError } from "../../src/tensor/errors.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";
import { expectPublished } from "../published.js";

const golden = new URL("../golden/importers", import.meta.url).pathname;
const model = ["--model", join(golden, "model")];
const folder = mkdtempSync(join(tmpdir(), "faultline-dumps-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => {
  process.exitCode = 0;
});

async function run(command: typeof namesCommand, ...words: string[]): Promise<{ text: string; code: unknown }> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const writeError = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    await command().exitOverride().parseAsync(words, { from: "user" });
    return { text: write.mock.calls.map(([text]) => String(text)).join(""), code: process.exitCode ?? 0 };
  } finally {
    write.mockRestore();
    writeError.mockRestore();
  }
}

async function verdictOf(...words: string[]): Promise<Verdict> {
  const { text } = await run(diagnoseCommand, ...words, "--quick", "--json");
  expectPublished("diagnose", text);
  return JSON.parse(text);
}

/** A tensor's numbers in the order of its own axes. */
function numbersOf({ shape, strides, first, dtype, source }: DumpTensor): number[] {
  const reader = new TensorReader();
  const columns = shape.at(-1)!;
  const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
  return Array.from({ length: rows }, (_, row) => {
    const out = new Float64Array(columns);
    reader.row(source, dtype, first + row * (strides.at(-2) ?? 0), onePiece(columns, strides.at(-1)!), out, 0);
    return [...out];
  }).flat();
}

/** A recording with other names for everything. */
function renamedRun(path: string, rename: (name: string, i: number) => string): string {
  const file = new SafetensorsFile(path);
  const tensors = [...file.entries.values()].map((entry, i) => ({
    ...entry,
    name: rename(entry.name, i),
    bytes: file.readBytes(entry),
  }));
  file.close();
  const renamed = join(folder, `${tensors[0]!.name.replaceAll("/", "-")}.safetensors`);
  writeSafetensors(renamed, tensors);
  return renamed;
}

const counting = Array.from({ length: 24 }, (_, i) => i);

describe("files of one forward pass", () => {
  it("torch.save: tensors as they lie, views of one storage, types, nested containers", () => {
    const tensors = new Map(openDump(join(golden, "views.pt")).tensors.map((tensor) => [tensor.name, tensor]));
    expect([...tensors.keys()]).toEqual([
      "whole",
      "turned",
      "part",
      "half",
      "eighth",
      "nested.0.ids",
      "nested.1.0",
      "weight",
    ]);
    const at = (name: string) => tensors.get(name)!;
    expect(numbersOf(at("whole"))).toEqual(counting);
    expect(at("turned")).toMatchObject({ shape: [6, 4], strides: [1, 6], storage: at("whole").storage });
    expect(numbersOf(at("turned")).slice(0, 4)).toEqual([0, 6, 12, 18]);
    expect(at("part")).toMatchObject({ shape: [2, 3], first: 8 });
    expect(numbersOf(at("part"))).toEqual([8, 9, 10, 14, 15, 16]);
    expect(at("half").dtype).toBe("bfloat16");
    expect(numbersOf(at("half"))).toEqual(counting);
    expect(at("eighth").dtype).toBe("float8_e4m3fn");
    expect(numbersOf(at("eighth")).slice(0, 17)).toEqual(counting.slice(0, 17));
    expect(numbersOf(at("nested.0.ids"))).toEqual([0, 1, 2]);
    expect(numbersOf(at("nested.1.0"))).toEqual([1, 1]);
  });

  it.each(["arrays.npz", "packed.npz"])("%s: rows, columns first, and half precision", (name) => {
    const tensors = openDump(join(golden, name)).tensors;
    expect(tensors.map(({ name, dtype }) => [name, dtype])).toEqual([
      ["rows", "float32"],
      ["columns", "float32"],
      ["half", "float16"],
    ]);
    for (const tensor of tensors) expect(numbersOf(tensor)).toEqual(counting);
    expect(tensors[1]!.strides).toEqual([1, 4]);
  });

  it("np.save, and llama.cpp's tokens and logits", () => {
    expect(numbersOf(openDump(join(golden, "array.npy")).tensors[0]!)).toEqual(counting);
    writeFileSync(join(folder, "llamacpp-m.bin"), Buffer.from(Float32Array.of(0.5, -1, 2).buffer));
    writeFileSync(join(folder, "llamacpp-m-tokens.bin"), Buffer.from(Int32Array.of(7, 9).buffer));
    const dump = openDump(join(folder, "llamacpp-m.bin"));
    expect(stepsOf(dump, {}).steps[0]!.token_ids).toEqual([7, 9]);
    expect(numbersOf(dump.tensors[1]!)).toEqual([0.5, -1, 2]);
  });
});

describe("the dumps of others' recorders", () => {
  it("SGLang's passes: a prefill and a step of decoding, whose sequences go on", () => {
    const { steps } = stepsOf(openDump(join(golden, "sglang-passes")), {});
    expect(steps).toMatchObject([
      {
        seq_ids: [0, 1],
        token_ids: [5, 17, 40, 3, 22, 9, 33, 61],
        qo_indptr: [0, 5, 8],
        positions: [0, 1, 2, 3, 4, 0, 1, 2],
      },
      { seq_ids: [0, 1], token_ids: [50, 12], qo_indptr: [0, 1, 2], positions: [5, 3] },
    ]);
  });

  it("FlashInfer's calls: pages, and sequences that go on by them", () => {
    expect(openDump(join(golden, "flashinfer")).steps).toMatchObject([
      {
        seq_ids: [0, 1],
        qo_indptr: [0, 5, 8],
        kv_indptr: [0, 2, 3],
        kv_indices: [4, 1, 2],
        kv_last_page_len: [1, 3],
        page_size: 4,
      },
      { seq_ids: [0, 1], qo_indptr: [0, 1, 2], kv_last_page_len: [2, 4], positions: [5, 3] },
    ]);
  });

  it.each([
    ["sglang-passes", 34],
    ["sglang-dumper", 42],
    ["flashinfer", 31],
  ])("%s of a correct run is clean in one command", async (name, units) => {
    const verdict = await verdictOf(join(golden, name), ...model);
    expect(verdict.verdict).toBe("clean");
    expect(verdict.proof.reproduced).toMatchObject({ matched: units, of: units });
  });

  it.each(["sglang-passes-fault", "flashinfer-fault"])("%s names its cause", async (name) => {
    const { verdict, causes } = await verdictOf(join(golden, name), ...model);
    expect(verdict).toBe("fault");
    expect(causes.map(({ cause }) => cause)).toEqual(["softmax-scale"]);
  });
});

describe("faultline names and import", () => {
  const path = join(golden, "sglang-dumper");

  it("write a file that diagnose reads, and what is corrected in it counts", async () => {
    const file = join(folder, "names.json");
    const { text, code } = await run(namesCommand, path, ...model, "--out", file);
    expect(code).toBe(0);
    expect(text).toMatch(/qkv_proj\.output\s+32 to 47\s+model\.layers\.\*\.self_attn\.k_proj\s+2/);
    expect(text).toContain(`written to ${file}`);
    expect((await verdictOf(path, ...model, "--names", file)).verdict).toBe("clean");
    const names = JSON.parse(readFileSync(file, "utf8"));
    for (const entry of names.values) {
      // The two halves exchanged: the record is wrong then, and the run is not.
      if (/\.mlp\.(gate|up)_proj$/.test(entry.value)) entry.columns = [48 - entry.columns[0], 48];
    }
    const exchanged = join(folder, "exchanged.json");
    writeFileSync(exchanged, JSON.stringify(names));
    const { causes } = await verdictOf(path, ...model, "--names", exchanged);
    expect(causes).toMatchObject([{ cause: "record-overwritten", kind: "observer" }]);
    await expect(run(namesCommand, path, ...model, "--out", file)).rejects.toThrow(InputError);
  });

  it("write a capture that is diagnosed as the dump is", async () => {
    const out = join(folder, "run");
    const { text } = await run(importCommand, join(golden, "sglang-passes"), ...model, "--out", out, "--json");
    expectPublished("import", text);
    expect(JSON.parse(text)).toEqual({ out, values: 66, steps: 2 });
    const capture = openCapture(out);
    expect(capture.steps[1]).toMatchObject({ seq_ids: [0, 1], token_ids: [50, 12] });
    capture.close();
    expect((await verdictOf(out, ...model)).proof.reproduced).toMatchObject({ matched: 34, of: 34 });
  });

  it("a name that ends as the model's does is its value, also where a fault gave it another one's numbers", async () => {
    const source = join(golden, "../families/gemma2");
    const renamed = renamedRun(join(source, "faults/no-mlp-residual.safetensors"), (name) => `run/0/${name}`);
    const { code, text } = await run(namesCommand, renamed, "--model", source, "--json");
    expect(code).toBe(0);
    expectPublished("names", text);
  });

  it("a dump in doubt is not diagnosed until a person has looked", async () => {
    const source = join(golden, "../families/gemma2");
    const path = renamedRun(join(source, "faults/no-mlp-residual.safetensors"), (_, i) => `t${i}`);
    const model = ["--model", source];
    await expect(run(diagnoseCommand, path, ...model)).rejects.toThrow(/input_ids/);
    const { code, text } = await run(namesCommand, path, ...model, "--json");
    expect(code).toBe(1);
    expectPublished("names", text);
    const names = join(folder, "doubt.json");
    writeFileSync(names, text);
    const { causes } = await verdictOf(path, ...model, "--names", names);
    expect(causes.map(({ cause }) => cause)).toEqual(["residual-dropped"]);
  });
});
