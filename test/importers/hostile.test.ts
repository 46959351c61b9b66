import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readNames } from "../../src/importers/names-file.js";
import { openDump } from "../../src/importers/recording.js";
import { InputError } from "../../src/tensor/errors.js";
import { pickle, torchArchive, zip } from "./zip.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-hostile-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** The sentence that a path is refused with. */
function refusal(path: string, open: (path: string) => unknown = openDump): string {
  try {
    open(path);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toContain(folder);
    expect((error as Error).message).not.toMatch(/[\p{Cc}]/u);
    return (error as Error).message;
  }
  throw new Error(`${path} was read`);
}

const storage = (type: string, key: string) =>
  `((X\x07\x00\x00\x00storagectorch\n${type}\nX\x01\x00\x00\x00${key}X\x03\x00\x00\x00cpuK\x02tQ`;
const tensor = (type: string, key: string, sizes: string, strides: string, first = "K\x00") =>
  `ctorch._utils\n_rebuild_tensor_v2\n${storage(type, key)}${first}${sizes}${strides}\x89}tR`;
const eight = { "0": new Uint8Array(8) };

describe("a pickle", () => {
  const marker = join(folder, "ran");

  it.each([
    ["os.system", `cos\nsystem\n(X\x05\x00\x00\x00touchtR`],
    ["builtins.eval", "cbuiltins\neval\n(X\x01\x00\x00\x001tR"],
    ["builtins.eval by STACK_GLOBAL", "\x8c\x08builtins\x8c\x04eval\x93)R"],
    ["torch.load", "ctorch\nload\n)R"],
    ["a class", "c__main__\nThing\n)\x81"],
    ["numpy.core.multiarray._reconstruct", "cnumpy.core.multiarray\n_reconstruct\n)R"],
  ])("that would call %s runs nothing", (_, opcodes) => {
    expect(refusal(write("call.pt", torchArchive(pickle(opcodes))))).toMatch(
      /which reading would have to run: nothing was/,
    );
    expect(existsSync(marker)).toBe(false);
  });

  it.each([
    ["INST", "(ios\nsystem\n", /opcode 0x69/],
    ["OBJ", "(K\x01o", /opcode 0x6f/],
    ["NEWOBJ", "K\x01K\x01\x81", /opcode 0x81/],
    ["EXT1", "\x82\x01", /opcode 0x82/],
    ["persistent ids in text", "P0\n", /opcode 0x50/],
    ["out-of-band buffers", "\x97", /opcode 0x97/],
    ["an unknown opcode", "\xff", /opcode 0xff/],
    ["a call of what it read", "K\x01)R", /found a call/],
    ["a state for an object", "K\x01}b", /state of its own/],
    ["a missing memo", "h\x07", /memo 7/],
    ["an empty stack", "a", /value on the pickle's stack/],
    ["a text beyond its end", "X\xff\xff\xff\x7fx", /ends in the middle/],
    ["huge whole numbers", "\x8a\x20", /at most 8 bytes/],
    ["protocol 9", "\x80\x09", /protocol 5/],
  ])("with %s is refused", (_, opcodes, message) => {
    expect(refusal(write("opcode.pt", torchArchive(pickle(opcodes))))).toMatch(message);
  });

  it.each([
    [
      "a tensor beyond its storage",
      tensor("FloatStorage", "0", "K\x03\x85", "K\x01\x85"),
      /within its storage "0" of 2 elements/,
    ],
    ["strides beyond it", tensor("FloatStorage", "0", "K\x02\x85", "J\x00\x00\x00\x40\x85"), /within its storage/],
    [
      "a negative offset",
      tensor("FloatStorage", "0", "K\x01\x85", "K\x01\x85", "J\xff\xff\xff\xff"),
      /within its storage/,
    ],
    ["negative sizes", tensor("FloatStorage", "0", "J\xff\xff\xff\xff\x85", "K\x01\x85"), /sizes and strides/],
    ["a missing storage", tensor("FloatStorage", "7", "K\x01\x85", "K\x01\x85"), /storage "7" in the archive/],
    ["a storage of another kind", tensor("QInt8Storage", "0", "K\x01\x85", "K\x01\x85"), /torch.QInt8Storage/],
    ["no tensor at all", "K\x01", /expected recorded tensors, found none/],
  ])("with %s is refused", (_, opcodes, message) => {
    expect(refusal(write("tensor.pt", torchArchive(pickle(opcodes), eight)))).toMatch(message);
  });

  it("that holds itself, or one list a thousand times over, is told once", () => {
    // Each list holds the one before twice: 2^40 paths to one tensor.
    const twice = `${"]q\x01(h\x02h\x02e".replace("\x02", "\x02")}q\x02`.repeat(40);
    const within = `${tensor("FloatStorage", "0", "K\x01\x85", "K\x01\x85")}\x85q\x02${twice}`;
    const opened = () => openDump(write("many.pt", torchArchive(pickle(within), eight)));
    const start = process.cpuUsage().user;
    try {
      expect(opened().tensors.length).toBe(1);
    } catch (error) {
      expect((error as Error).message).toMatch(/nested at most 32/);
    }
    expect(
      openDump(
        write(
          "self.pt",
          torchArchive(pickle(`]q\x01h\x01a${tensor("FloatStorage", "0", "K\x01\x85", "K\x01\x85")}a`), eight),
        ),
      ).tensors,
    ).toHaveLength(1);
    expect((process.cpuUsage().user - start) / 1e6).toBeLessThan(2);
  });
});

describe("an archive", () => {
  const plain = pickle(tensor("FloatStorage", "0", "K\x02\x85", "K\x01\x85"));

  it.each([
    ["names outside of it", [{ name: "../../x/data.pkl", bytes: plain }], /a name within the archive/],
    ["absolute names", [{ name: "/x/data.pkl", bytes: plain }], /a name within the archive/],
    ["names of drives", [{ name: "C:\\x", bytes: plain }], /a name within the archive/],
    [
      "a member twice",
      [
        { name: "x", bytes: plain },
        { name: "x", bytes: plain },
      ],
      /every name once/,
    ],
    [
      "members over each other",
      [
        { name: "a", bytes: plain },
        { name: "b", bytes: plain, over: "a" },
      ],
      /found an overlap/,
    ],
    ["encryption", [{ name: "x/data.pkl", bytes: plain, flags: 1 }], /no encryption/],
    ["another compression", [{ name: "x/data.pkl", bytes: plain, method: 12 }], /compression method 12/],
    ["a stored size that is a lie", [{ name: "x/data.pkl", bytes: plain, size: 2 ** 31 }], /cannot hold/],
    [
      "a deflated size that is a lie",
      [{ name: "x/data.pkl", bytes: plain, deflate: true, size: 2 ** 31 }],
      /cannot hold/,
    ],
    [
      "less than it claims",
      [{ name: "x/data.pkl", bytes: plain, deflate: true, size: plain.length + 9 }],
      /expected \d+ bytes of deflated data/,
    ],
    [
      "more than it claims",
      [{ name: "x/data.pkl", bytes: plain, deflate: true, size: 4 }],
      /expected 4 bytes of deflated data/,
    ],
    [
      "bytes that are not deflated",
      [{ name: "x/data.pkl", bytes: Buffer.alloc(40, 0xff), method: 8, size: 50 }],
      /expected 50 bytes of deflated data/,
    ],
    [
      "two pickles",
      [
        { name: "x/data.pkl", bytes: plain },
        { name: "y/data.pkl", bytes: plain },
      ],
      /one data.pkl/,
    ],
    ["no pickle", [{ name: "x/data/0", bytes: plain }], /one data.pkl/],
    [
      "the other byte order",
      [
        { name: "x/data.pkl", bytes: plain },
        { name: "x/byteorder", bytes: Buffer.from("big") },
      ],
      /expected little/,
    ],
  ] as const)("with %s is refused", (_, members, message) => {
    expect(refusal(write("archive.pt", zip(members)))).toMatch(message);
  });

  it("that would unpack to gigabytes is refused before memory is taken", () => {
    const bomb = Array.from({ length: 5 }, (_, i) => ({
      name: `${i}.npy`,
      bytes: Buffer.alloc(2 ** 18),
      deflate: true,
      size: 2 ** 28,
    }));
    expect(refusal(write("bomb.npz", zip(bomb)))).toMatch(/cannot hold|to unpack/);
  });

  it("that is none, is empty or is cut is refused", () => {
    expect(refusal(write("none.pt", "hello"))).toMatch(/found no zip archive/);
    expect(refusal(write("empty.pt", ""))).toMatch(/found no zip archive/);
    const whole = torchArchive(plain, eight);
    expect(refusal(write("cut.pt", whole.subarray(0, whole.length - 30)))).toMatch(/found no zip archive/);
  });
});

describe("a header", () => {
  const npy = (header: string, bytes = 8) =>
    Buffer.concat([
      Buffer.from(`\x93NUMPY\x01\x00${String.fromCharCode(header.length, 0)}${header}`, "latin1"),
      Buffer.alloc(bytes),
    ]);

  it.each([
    ["objects", "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", /found "\|O"/],
    ["big-endian numbers", "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", /found ">f4"/],
    [
      "more than the file has",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000000,), }",
      /need 16000000000000 bytes/,
    ],
    ["code", "__import__('os').system('x')", /expected descr/],
    ["too many axes", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }", /up to 8/],
  ])("of a .npy file that claims %s is refused", (_, header, message) => {
    expect(refusal(write("header.npy", npy(header)))).toMatch(message);
  });

  it("of FlashInfer's dump leads nowhere: paths in its log are names of folders beside it", () => {
    const path = join(folder, "calls");
    const call = join(path, "20260101_000000_000_pid1_rmsnorm_call0001");
    mkdirSync(call, { recursive: true });
    writeFileSync(join(path, "session.jsonl"), `${JSON.stringify({ dump_dir: "../../../etc" })}\n`);
    writeFileSync(
      join(call, "metadata.jsonl"),
      `${JSON.stringify({ function_name: "rmsnorm", function_signature: "(".repeat(9000), input_metadata: {} })}\n`,
    );
    expect(refusal(path)).toMatch(/expected a call that plans attention/);
    writeFileSync(join(call, "metadata.jsonl"), `${JSON.stringify({ function_name: 7 })}\n`);
    expect(refusal(path)).toMatch(/function_name/);
  });
});

it.each([
  ["no JSON", "names", /expected JSON/],
  ["another format", '{"format":"x"}', /format/],
  ["a field that nobody reads", '{"format":"faultline-names","version":1,"values":[],"exec":"x"}', /exec/],
  [
    "negative columns",
    '{"format":"faultline-names","version":1,"values":[{"tensor":"a","value":"b","columns":[-1,2]}]}',
    /columns/,
  ],
  ["deep nesting", "[".repeat(50), /nested at most/],
])("a file of names with %s is refused", (_, text, message) => {
  expect(refusal(write("names.json", text), readNames)).toMatch(message);
});
