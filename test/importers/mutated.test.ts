import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { randomGenerator } from "../../src/diagnose/bits/sample.js";
import { readNames } from "../../src/importers/names-file.js";
import { openDump } from "../../src/importers/recording.js";
import { stepsOf } from "../../src/importers/steps.js";
import { encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { writeSafetensors } from "../../src/tensor/safetensors.js";

const golden = new URL("../golden/importers", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "faultline-mutated-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A small recording of every format: a file, or a folder of which a few files are taken. */
function seeds(): string[] {
  const at = (name: string) => join(folder, name);
  for (const name of ["views.pt", "arrays.npz", "packed.npz", "array.npy"]) cpSync(join(golden, name), at(name));
  writeSafetensors(at("plain.safetensors"), [
    { name: "a", dtype: "float32", shape: [2, 2], bytes: encode([1, 2, 3, 4], "float32") },
    { name: "input_ids", dtype: "int32", shape: [1, 2], bytes: encode([1, 2], "int32") },
  ]);
  mkdirSync(at("arrays"));
  cpSync(join(golden, "array.npy"), at("arrays/a.npy"));
  cpSync(join(golden, "views.pt"), at("arrays/b.pt"));
  writeFileSync(at("llamacpp-x.bin"), encode([0.5, 1, -2], "float32"));
  writeFileSync(at("llamacpp-x-tokens.bin"), encode([1, 2], "int32"));
  mkdirSync(at("passes"));
  cpSync(join(golden, "sglang-passes-fault/TP0_PP0_Rank0_pid1/Pass00000.pt"), at("passes/Pass00000.pt"));
  for (const [name, source, wanted] of [
    ["dumper", "sglang-dumper", /dump_index=[1-6]___/],
    ["calls", "flashinfer-fault", /plan_call0001|append_paged_kv_cache_call0001|_rmsnorm_call0001/],
  ] as const) {
    const found = readdirSync(join(golden, source)).filter((file) => wanted.test(file));
    expect(found.length).toBeGreaterThan(2);
    for (const file of found) cpSync(join(golden, source, file), join(folder, name, file), { recursive: true });
  }
  writeFileSync(
    at("names.json"),
    '{"format":"faultline-names","version":1,"tokens":{"input_ids":"ids"},"values":[{"tensor":"a","value":"model.norm","columns":[0,4],"unsure":true}],"unplaced":[{"tensor":"b","why":"no"}]}',
  );
  return [
    "views.pt",
    "arrays.npz",
    "packed.npz",
    "array.npy",
    "plain.safetensors",
    "arrays",
    "llamacpp-x.bin",
    "passes",
    "dumper",
    "calls",
    "names.json",
  ];
}

function filesUnder(path: string): string[] {
  if (statSync(path).isFile()) return [path];
  return readdirSync(path).flatMap((name) => filesUnder(join(path, name)));
}

/** Opens a recording, reads its tokens and every byte of its tensors. */
function readAll(path: string): void {
  if (path.endsWith(".json")) return void readNames(path);
  const dump = openDump(path);
  for (const { source } of dump.tensors) source.file.readBytes(source.entry);
  stepsOf(dump, dump.steps ? { token_ids: {} } : {});
}

const nasty = [0, 1, 0x28, 0x2e, 0x63, 0x51, 0x52, 0x7f, 0x80, 0xff];

/** Changed bytes of a file: some flipped or overwritten, a stretch taken out, doubled or cut. */
function mutate(bytes: Buffer, random: () => number): Buffer {
  const below = (n: number) => Math.floor(random() * n);
  const changed = Buffer.from(bytes);
  const kind = below(10);
  if (kind === 0) return changed.subarray(0, below(changed.length + 1));
  const at = below(changed.length);
  if (kind === 1) return Buffer.concat([changed.subarray(0, at), changed.subarray(at + below(64))]);
  if (kind === 2) return Buffer.concat([changed.subarray(0, at + below(64)), changed.subarray(at)]);
  for (let i = below(4); i >= 0; i--) {
    const place = below(changed.length);
    changed[place] = below(2) === 0 ? changed[place]! ^ (1 << below(8)) : nasty[below(nasty.length)]!;
  }
  return changed;
}

/** A new file under the name: writing over an old one waits for the disk on some file systems. */
function replace(path: string, bytes: Uint8Array): void {
  rmSync(path);
  writeFileSync(path, bytes);
}

it.each(seeds())(
  "2000 broken variants of %s: one sentence or a result, in bounded time",
  { timeout: 120_000 },
  (name) => {
    const path = join(folder, name);
    const files = [...filesUnder(path), ...(name === "llamacpp-x.bin" ? [join(folder, "llamacpp-x-tokens.bin")] : [])];
    const whole = new Map(files.map((file) => [file, readFileSync(file)]));
    const random = randomGenerator(name.length * 7919);
    const outcomes = { refused: 0, read: 0 };
    const start = process.cpuUsage();
    for (let i = 0; i < 2000; i++) {
      const file = files[Math.floor(random() * files.length)]!;
      replace(file, mutate(whole.get(file)!, random));
      try {
        readAll(path);
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof InputError)) throw new Error(`variant ${i} of ${name}`, { cause: error });
        expect(error.message.includes(folder) && !/[\p{Cc}]/u.test(error.message), error.message).toBe(true);
        outcomes.refused++;
      }
      replace(file, whole.get(file)!);
    }
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1e6).toBeLessThan(60);
    expect(outcomes.refused).toBeGreaterThan(100);
  },
);
