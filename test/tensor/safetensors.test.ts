import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-safetensors-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let count = 0;
const fresh = () => join(folder, `${count++}.safetensors`);

/** A file with the given header text and so many bytes of data. */
function raw(header: string | Uint8Array, dataBytes: number, claimed?: bigint): string {
  const path = fresh();
  const text = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(claimed ?? BigInt(text.length));
  writeFileSync(path, Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]));
  return path;
}

const entry = (dtype: unknown, shape: unknown, offsets: unknown) => ({ dtype, shape, data_offsets: offsets });

function refusal(path: string): string {
  try {
    new SafetensorsFile(path).close();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toContain(path);
    expect((error as Error).message).not.toContain("\n");
    return (error as Error).message;
  }
  throw new Error("the file was accepted");
}

describe("reading and writing", () => {
  it("reads back what was written, whole and by ranges", () => {
    const path = fresh();
    const values = Float64Array.from({ length: 24 }, (_, i) => i - 5);
    writeSafetensors(path, [
      { name: "a", dtype: "float32", shape: [4, 6], bytes: encode(values, "float32") },
      { name: "__proto__", dtype: "int64", shape: [2], bytes: encode([7, -9], "int64") },
      { name: "empty", dtype: "bfloat16", shape: [0, 8], bytes: new Uint8Array(0) },
    ]);
    const file = new SafetensorsFile(path);
    expect([...file.entries.keys()].sort()).toEqual(["__proto__", "a", "empty"]);
    const a = file.entry("a");
    expect([...decode(file.readBytes(a), "float32")]).toEqual([...values]);
    expect([...decode(file.readBytes(a, 24, 24), "float32")]).toEqual([...values.slice(6, 12)]);
    expect([...decode(file.readBytes(file.entry("__proto__")), "int64")]).toEqual([7, -9]);
    expect(file.readBytes(file.entry("empty")).length).toBe(0);
    expect(() => file.readBytes(a, 90, 8)).toThrow(/96 bytes; a view of it reaches byte 98/);
    expect(() => file.readBytes(a, -4, 4)).toThrow(InputError);
    expect(() => file.entry("b")).toThrow(/expected a tensor named "b"/);
    file.close();
    file.close();
  });

  it("starts data at a multiple of 8 bytes, as the format asks", () => {
    const path = fresh();
    writeSafetensors(path, [{ name: "é", dtype: "uint8", shape: [3], bytes: Uint8Array.of(1, 2, 3) }]);
    expect(Number(readFileSync(path).readBigUInt64LE(0)) % 8).toBe(0);
    const file = new SafetensorsFile(path);
    expect([...file.readBytes(file.entry("é"))]).toEqual([1, 2, 3]);
    file.close();
  });

  it("never overwrites", () => {
    const path = fresh();
    writeFileSync(path, "precious");
    expect(() => writeSafetensors(path, [])).toThrow(InputError);
    expect(readFileSync(path, "utf8")).toBe("precious");
    expect(() => writeSafetensors(join(folder, "no", "such", "folder"), [])).toThrow(InputError);
  });
});

describe("malformed files", () => {
  const good = entry("F32", [2], [0, 8]);
  const empty = fresh();
  writeFileSync(empty, "");
  const table: [string, string, RegExp][] = [
    ["a missing file", join(folder, "missing"), /cannot be opened/],
    ["a folder", folder, /found a directory/],
    ["an empty file", empty, /at least 8 bytes, found 0/],
    ["a header longer than the file", raw("{}", 0, 1000n), /header claims 1000 bytes, the file has 10/],
    ["a header of 2^63 bytes", raw("{}", 0, 2n ** 63n), /header claims/],
    ["text in place of a header", raw("hello, world", 0), /header is not JSON/],
    ["bytes that are no UTF-8", raw(Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d), 0), /header is not JSON/],
    ["a header that is a list", raw("[]", 0), /expected an object/],
    ["a header of null", raw("null", 0), /expected an object/],
    ["a tensor that is a number", raw('{"a":1}', 0), /tensor "a": expected an object/],
    ["a header nested a million deep", raw(`{"a":${"[".repeat(1e6)}`, 0), /nested at most/],
    ["an unknown dtype", raw(JSON.stringify({ a: entry("C64", [2], [0, 8]) }), 8), /dtype "C64" is not one of/],
    ["a dtype named like a method", raw(JSON.stringify({ a: entry("toString", [2], [0, 8]) }), 8), /is not one of/],
    ["a missing dtype", raw(JSON.stringify({ a: { shape: [2], data_offsets: [0, 8] } }), 8), /dtype undefined/],
    ["a negative extent", raw(JSON.stringify({ a: entry("F32", [-2], [0, 8]) }), 8), /shape: expected/],
    ["a fractional extent", raw(JSON.stringify({ a: entry("F32", [0.5], [0, 8]) }), 8), /shape: expected/],
    ["nine axes", raw(JSON.stringify({ a: entry("U8", Array(9).fill(1), [0, 1]) }), 1), /up to 8/],
    ["a shape that overflows", raw(JSON.stringify({ a: entry("F32", [2 ** 52, 2 ** 52], [0, 8]) }), 8), /span 8 bytes/],
    ["a shape that is text", raw(JSON.stringify({ a: entry("F32", "2", [0, 8]) }), 8), /shape: expected/],
    [
      "a shape its bytes do not fill",
      raw(JSON.stringify({ a: entry("F32", [3], [0, 8]) }), 8),
      /shape and dtype need 12/,
    ],
    ["offsets outside the file", raw(JSON.stringify({ a: entry("F32", [2], [8, 16]) }), 8), /truncated/],
    ["offsets that run backwards", raw(JSON.stringify({ a: entry("F32", [2], [8, 0]) }), 8), /span -8 bytes/],
    ["negative offsets", raw(JSON.stringify({ a: entry("F32", [2], [-8, 0]) }), 8), /two whole numbers/],
    ["one offset", raw(JSON.stringify({ a: entry("F32", [2], [0]) }), 8), /two whole numbers/],
    ["overlapping tensors", raw(JSON.stringify({ a: good, b: entry("F32", [2], [4, 12]) }), 12), /overlaps/],
    ["a hole between tensors", raw(JSON.stringify({ a: good, b: entry("F32", [2], [12, 20]) }), 20), /leaves a hole/],
    ["bytes after the last tensor", raw(JSON.stringify({ a: good }), 9), /expected no bytes after them/],
    ["data cut short", raw(JSON.stringify({ a: good }), 7), /truncated/],
    ["a name that writes to the terminal", raw(JSON.stringify({ "\u001b[2J\n": 1 }), 0), /tensor "\\u001b\[2J\\u000a"/],
  ];

  it.each(table)("refuses %s", (_, path, expected) => {
    expect(refusal(path)).toMatch(expected);
  });

  it("refuses a header beyond its limit without reading it", () => {
    const path = fresh();
    writeFileSync(path, Buffer.alloc(40 * 2 ** 20, 32));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(36n * 2n ** 20n);
    writeFileSync(path, prefix, { flag: "r+" });
    expect(refusal(path)).toMatch(/header claims 37748736 bytes/);
  });

  it("refuses a file cut at any byte", () => {
    const whole = fresh();
    writeSafetensors(whole, [{ name: "a", dtype: "float32", shape: [2], bytes: encode([1, 2], "float32") }]);
    const bytes = readFileSync(whole);
    for (let length = 0; length < bytes.length; length++) {
      const path = fresh();
      writeFileSync(path, bytes.subarray(0, length));
      refusal(path);
    }
  });
});

describe("checkpoints", () => {
  const tensor = (name: string, values: number[], columns: number) => ({
    name,
    dtype: "bfloat16" as const,
    shape: [values.length / columns, columns],
    bytes: encode(values, "bfloat16"),
  });

  function model(files: Record<string, { name: string }[]>, index?: unknown): string {
    const directory = join(folder, `model-${count++}`);
    mkdirSync(directory);
    for (const [name, tensors] of Object.entries(files))
      writeSafetensors(join(directory, name), tensors as ReturnType<typeof tensor>[]);
    if (index !== undefined)
      writeFileSync(
        join(directory, "model.safetensors.index.json"),
        typeof index === "string" ? index : JSON.stringify(index),
      );
    return directory;
  }

  it("reads row ranges of one file", () => {
    const checkpoint = new Checkpoint(model({ "model.safetensors": [tensor("w", [1, 2, 3, 4, 5, 6], 2)] }));
    expect(checkpoint.shape("w")).toEqual([3, 2]);
    expect(checkpoint.shape("b")).toBeUndefined();
    expect([...checkpoint.rows("w", 1, 2)]).toEqual([3, 4, 5, 6]);
    expect(checkpoint.rows("w", 1, 2)).toEqual(checkpoint.rows("w", 1, 2));
    expect(() => checkpoint.rows("w", 2, 2)).toThrow(InputError);
    expect(() => checkpoint.rows("b", 0, 1)).toThrow(/no parameter "b"/);
    checkpoint.close();
  });

  it("reads rows longer than what is decoded at a time, and into memory of the caller's", () => {
    const columns = 2 ** 17 + 3;
    const values = Array.from({ length: 2 * columns }, (_, i) => (i % 251) - 125);
    const whole = tensor("w", values, columns);
    const checkpoint = new Checkpoint(model({ "model.safetensors": [whole] }));
    expect(Buffer.compare(encode(checkpoint.rows("w", 0, 2), "float64"), encode(values, "float64"))).toBe(0);
    expect(checkpoint.rows("w", 1, 1).every((x, i) => x === values[columns + i])).toBe(true);
    const target = new Uint8Array(2 * columns + 1).subarray(1);
    checkpoint.readInto("w", target, 1);
    expect(Buffer.compare(target, whole.bytes.subarray(2 * columns))).toBe(0);
    expect(() => checkpoint.readInto("w", target, 2)).toThrow(/a view of it reaches byte/);
    checkpoint.close();
  });

  it("reads shards through their index", () => {
    const checkpoint = new Checkpoint(
      model(
        { "a-00001.safetensors": [tensor("x", [1, 2], 2)], "a-00002.safetensors": [tensor("y", [3, 4], 2)] },
        { weight_map: { x: "a-00001.safetensors", y: "a-00002.safetensors" } },
      ),
    );
    expect([...checkpoint.names()].sort()).toEqual(["x", "y"]);
    expect([...checkpoint.rows("y", 0, 1)]).toEqual([3, 4]);
    checkpoint.close();
  });

  it.each([
    ["no weights at all", () => model({}), /found neither/],
    ["no folder", () => join(folder, "nowhere"), /expected a model folder/],
    ["an index that is no JSON", () => model({}, "{"), /index\.json: expected JSON/],
    ["an index without a map", () => model({}, {}), /weight_map: expected an object/],
    ["an empty map", () => model({}, { weight_map: {} }), /at least one parameter/],
    [
      "a shard outside the folder",
      () => model({}, { weight_map: { x: "../secret.safetensors" } }),
      /inside the folder/,
    ],
    ["an absolute shard", () => model({}, { weight_map: { x: "/etc/x.safetensors" } }), /inside the folder/],
    ["a shard with a backslash", () => model({}, { weight_map: { x: "..\\x.safetensors" } }), /inside the folder/],
    ["a shard that is a number", () => model({}, { weight_map: { x: 7 } }), /weight_map: expected file names/],
    ["a missing shard", () => model({}, { weight_map: { x: "b.safetensors" } }), /b\.safetensors: .* cannot be opened/],
    [
      "a parameter its shard does not hold",
      () => model({ "b.safetensors": [tensor("y", [1, 2], 2)] }, { weight_map: { x: "b.safetensors" } }),
      /expected a tensor named "x"/,
    ],
  ])("refuses %s", (_, directory, expected) => {
    const path = directory();
    expect(() => new Checkpoint(path)).toThrow(InputError);
    expect(() => new Checkpoint(path)).toThrow(expected);
  });
});
