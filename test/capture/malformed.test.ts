import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { SafetensorsFile, type TensorBytes, writeSafetensors } from "../../src/tensor/safetensors.js";
import { tinyConfig, writePagedCapture, writePlainCapture, writeTinyModel } from "./tiny-run.js";

const root = new URL("../..", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "faultline-malformed-"));
const at = (name: string) => join(folder, name);
const model = writeTinyModel(at("model"));
writePlainCapture(at("plain.safetensors"), model);
writePagedCapture(at("paged"), model);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A copy of the plain recording with its tensors changed. */
function plainWith(name: string, change: (tensor: TensorBytes) => TensorBytes | undefined): string {
  const file = new SafetensorsFile(at("plain.safetensors"));
  const tensors = [...file.entries.values()].flatMap((entry) => {
    const { name, dtype, shape } = entry;
    return change({ name, dtype, shape, bytes: file.readBytes(entry) }) ?? [];
  });
  file.close();
  writeSafetensors(at(name), tensors);
  return at(name);
}

function write(name: string, content: string | Uint8Array): string {
  writeFileSync(at(name), content);
  return at(name);
}

/** A copy of a folder with one file replaced. */
function folderWith(name: string, source: string, file: string, content: string | Uint8Array): string {
  cpSync(at(source), at(name), { recursive: true });
  writeFileSync(join(at(name), file), content);
  return at(name);
}

/** The model with one file replaced. */
function modelWith(name: string, file: string, content: string | Uint8Array): string {
  folderWith(name, "model", file, content);
  return name;
}

const plainBytes = readFileSync(at("plain.safetensors"));
const nan = (tensor: TensorBytes) =>
  tensor.dtype === "bfloat16"
    ? { ...tensor, bytes: encode(decode(tensor.bytes, "bfloat16").fill(Number.NaN), "bfloat16") }
    : tensor;
const oversized = Buffer.concat([Buffer.alloc(8), plainBytes.subarray(8)]);
oversized.writeBigUInt64LE(2n ** 40n);
mkdirSync(at("nothing"));
mkdirSync(at("bare"));
write("bare/config.json", JSON.stringify(tinyConfig));
const otherModel = writeTinyModel(at("other-model"), { ...tinyConfig, hidden_size: 32, head_dim: 16 });
otherModel.checkpoint.close();
const weights = readFileSync(at("model/model.safetensors"));
// 0xffff is NaN in bfloat16; the header stays.
const nanWeights = Buffer.from(weights).fill(0xff, 8 + Number(weights.readBigUInt64LE(0)));
const cutWeights = weights.subarray(0, weights.length - 1);

/** What is given, as target and model, and the sentence: which file it names and what it says. */
const table: [what: string, target: string, model: string, names: string, says: RegExp][] = [
  ["a target that does not exist", at("missing"), "model", "missing", /no such file or directory; expected a capture/],
  ["an empty file", write("empty.safetensors", ""), "model", "empty.safetensors", /at least 8 bytes, found 0/],
  ["an empty folder", at("nothing"), "model", "nothing", /expected a capture directory with manifest\.json/],
  [
    "a truncated plain file",
    write("cut.safetensors", plainBytes.subarray(0, plainBytes.length - 100)),
    "model",
    "cut.safetensors",
    /truncated/,
  ],
  [
    "a truncated header",
    write("cut-header.safetensors", plainBytes.subarray(0, 300)),
    "model",
    "cut-header.safetensors",
    /truncated/,
  ],
  [
    "a header of a terabyte",
    write("big.safetensors", oversized),
    "model",
    "big.safetensors",
    /header claims 1099511627776 bytes/,
  ],
  [
    "a photograph",
    write("photo.safetensors", Buffer.from("89504e470d0a1a0a0000000d49484452", "hex")),
    "model",
    "photo.safetensors",
    /not a safetensors file/,
  ],
  [
    "JSON named .safetensors",
    write("json.safetensors", JSON.stringify({ weights: [1, 2, 3] })),
    "model",
    "json.safetensors",
    /not a safetensors file/,
  ],
  [
    "a pickle",
    write("pytorch_model.bin", Buffer.concat([Buffer.from("504b0304", "hex"), Buffer.alloc(600)])),
    "model",
    "pytorch_model.bin",
    /not a safetensors file/,
  ],
  [
    "a checkpoint as the recording",
    join(at("model"), "model.safetensors"),
    "model",
    "model.safetensors",
    /expected a tensor "input_ids"/,
  ],
  [
    "a model folder as the recording",
    at("model"),
    "model",
    "model",
    /a tensor "input_ids" with the tokens of the run, found none/,
  ],
  [
    "the manifest alone",
    write("manifest-only.json", readFileSync(join(at("paged"), "manifest.json"))),
    "model",
    "manifest-only.json",
    /not a safetensors file/,
  ],
  [
    "a manifest of something else",
    folderWith("foreign", "paged", "manifest.json", '{"format":"har","version":1}'),
    "model",
    "manifest.json",
    /format: /,
  ],
  [
    "a manifest of a later version",
    folderWith("later", "paged", "manifest.json", '{"format":"faultline-capture","version":3}'),
    "model",
    "manifest.json",
    /version: /,
  ],
  [
    "a manifest that is no JSON",
    folderWith("broken", "paged", "manifest.json", "{"),
    "model",
    "manifest.json",
    /expected JSON/,
  ],
  [
    "events that are empty",
    folderWith("no-events", "paged", "events.jsonl", ""),
    "model",
    "events.jsonl",
    /at least one "step" event, found none/,
  ],
  [
    "events that are binary",
    folderWith("binary", "paged", "events.jsonl", Buffer.concat([Buffer.from([0, 255, 10]), plainBytes])),
    "model",
    "events.jsonl",
    /line 1: expected one JSON object per line/,
  ],
  [
    "a step's file that is text",
    folderWith("text", "paged", "step-00000.safetensors", "hello, this is text"),
    "model",
    "step-00000.safetensors",
    /not a safetensors file/,
  ],
  [
    "another step's file",
    folderWith("swapped", "paged", "step-00000.safetensors", readFileSync(join(at("paged"), "step-00002.safetensors"))),
    "model",
    "step-00000.safetensors",
    /has no tensor/,
  ],
  [
    "a value of another shape",
    plainWith("misshapen.safetensors", (t) => (t.name === "model.norm" ? { ...t, shape: [2, 3, 32] } : t)),
    "model",
    "misshapen.safetensors",
    /"model\.norm" of step 0 has shape \[2, 3, 32\]/,
  ],
  [
    "tokens of another length",
    plainWith("tokens.safetensors", (t) => (t.name === "input_ids" ? { ...t, shape: [1, 12] } : t)),
    "model",
    "tokens.safetensors",
    /has shape \[2, 6, .*need 12 rows/,
  ],
  [
    "tokens of another vocabulary",
    plainWith("vocabulary.safetensors", (t) =>
      t.name === "input_ids" ? { ...t, bytes: encode(new Array(12).fill(99999), "int64") } : t,
    ),
    "model",
    "vocabulary.safetensors",
    /vocabulary of 32, found 99999/,
  ],
  [
    "names of no model",
    plainWith("names.safetensors", (t) =>
      t.name === "input_ids" ? t : { ...t, name: `transformer.h.${t.name.length}.${t.bytes.length}.${Math.random()}` },
    ),
    "model",
    "names.safetensors",
    /none of the \d+ recorded values is a value of this model/,
  ],
  ["NaN in every element", plainWith("nan.safetensors", nan), "model", "nan.safetensors", /found NaN in every element/],
  [
    "another model's recording",
    at("plain.safetensors"),
    "other-model",
    "plain.safetensors",
    /recorded with another model\?/,
  ],
  ["a model that does not exist", at("plain.safetensors"), "no-model", "config.json", /config\.json/],
  ["a model without weights", at("plain.safetensors"), "bare", "bare", /found neither/],
  [
    "a model whose config is a list",
    at("plain.safetensors"),
    modelWith("list", "config.json", "[]"),
    "config.json",
    /config\.json: /,
  ],
  [
    "a model of another architecture",
    at("plain.safetensors"),
    modelWith("bert", "config.json", JSON.stringify({ ...tinyConfig, model_type: "bert" })),
    "config.json",
    /model_type/,
  ],
  [
    "weights that are NaN",
    at("plain.safetensors"),
    modelWith("nan-model", "model.safetensors", nanWeights),
    "nan-model",
    /"model\.embed_tokens\.weight": expected numbers, found NaN in every element of its first row/,
  ],
  [
    "weights that are cut",
    at("plain.safetensors"),
    modelWith("cut-model", "model.safetensors", cutWeights),
    "model.safetensors",
    /truncated/,
  ],
  [
    "weights of another shape",
    at("plain.safetensors"),
    modelWith("wide", "config.json", JSON.stringify({ ...tinyConfig, intermediate_size: 48 })),
    "wide",
    /has shape \[24, 16\], its config\.json calls for \[48, 16\]/,
  ],
];

/** Digest of every file of the working folder. */
function fingerprint(): string {
  const hash = createHash("sha256");
  const visit = (path: string) => {
    for (const name of readdirSync(path).sort()) {
      const below = join(path, name);
      hash.update(name);
      if (statSync(below).isDirectory()) visit(below);
      else hash.update(readFileSync(below));
    }
  };
  visit(folder);
  return hash.digest("hex");
}

describe("bad input is one sentence naming the file and what was expected", () => {
  it.each(table)("from the library: %s", async (_, target, modelName, names, says) => {
    let thrown: unknown;
    try {
      await diagnose({ target, model: at(modelName) });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InputError);
    const { message } = thrown as InputError;
    expect(message).toMatch(says);
    expect(message).toContain(names);
    expect(message).toContain(folder);
    expect(message).not.toContain("\n");
  });

  it("from the command: exit 2, nothing on stdout, no stack trace, nothing overwritten", async () => {
    const before = fingerprint();
    const command = join(root, "dist/cli/main.js");
    // Every third case: the library's tests cover all, a process each takes its time.
    for (const [what, target, modelName, , says] of table.filter((_, i) => i % 3 === 0)) {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [command, "diagnose", target, "--model", at(modelName), "--json"],
        { encoding: "utf8" },
      );
      expect(stderr, what).toMatch(says);
      expect(stderr.trim().split("\n").length, what).toBe(1);
      expect(stderr, what).not.toMatch(/\n\s+at |node:internal/);
      expect(stdout, what).toBe("");
      expect(status, what).toBe(2);
    }
    expect(fingerprint()).toBe(before);
  });

  it("a sound recording of the same kind is diagnosed", async () => {
    for (const target of ["plain.safetensors", "paged"]) {
      const { verdict, summary } = await diagnose({ target: at(target), model: at("model") });
      expect(verdict, summary).toBe("clean");
    }
  });
});
