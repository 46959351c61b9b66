import { randomGenerator } from "../../src/diagnose/bits/sample.js";

/** Files of a capture by name; a plain capture is one file. */
export type Files = Map<string, Buffer>;

/** Replacements for a JSON value: wrong types, huge, negative, empty, deep and long ones. */
const nasty: unknown[] = [
  null,
  true,
  0,
  1,
  -1,
  0.5,
  7,
  4096,
  2 ** 20,
  2 ** 31,
  2 ** 32 + 1,
  2 ** 40,
  2 ** 53,
  -(2 ** 31),
  -(2 ** 40),
  1e300,
  "",
  "x",
  "__proto__",
  "../../x",
  "a".repeat(5000),
  "\u001b[31m\n",
  [],
  {},
  [[]],
  [0],
  [-1, 2 ** 40],
  new Array(2000).fill(1),
  "float32",
  "int64",
  "BF16",
  "HND",
];

/** Draws one broken variant of a capture after another; the same seed draws the same ones. */
export class Mutator {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomGenerator(seed);
  }

  /** A changed copy of some files, and what was done to them. */
  mutate(files: Files): { files: Files; what: string } {
    const changed = new Map(files);
    const times = this.#below(4) === 0 ? 2 : 1;
    const what: string[] = [];
    for (let i = 0; i < times; i++) what.push(this.#once(changed));
    return { files: changed, what: what.join("; ") };
  }

  #once(files: Files): string {
    const events = files.has("events.jsonl") && this.#below(2) === 0;
    const name = events ? "events.jsonl" : this.#pick([...files.keys()]);
    const bytes = files.get(name)!;
    const kind = this.#below(16);
    if (kind === 0) {
      files.set(name, bytes.subarray(0, this.#below(bytes.length + 1)));
      return `cut ${name}`;
    }
    if (kind === 1) {
      const other = this.#pick([...files.keys()]);
      files.set(name, files.get(other)!);
      return `${other} in place of ${name}`;
    }
    if (kind === 2) {
      files.set(name, Buffer.concat([bytes, bytes.subarray(0, this.#below(64))]));
      return `bytes after ${name}`;
    }
    if (kind === 3 || (kind <= 8 && name.endsWith(".safetensors"))) return this.#flip(files, name, bytes);
    if (name.endsWith(".safetensors")) return this.#header(files, name, bytes);
    return this.#lines(files, name, bytes);
  }

  #flip(files: Files, name: string, bytes: Buffer): string {
    const copy = Buffer.from(bytes);
    // A flip in the structure is mostly fatal, one in the data never: both are wanted.
    const structure = name.endsWith(".safetensors") ? headerEnd(copy) : copy.length;
    const inData = structure < copy.length && this.#below(5) > 0;
    const [from, to] = inData ? [structure, copy.length] : [0, structure];
    for (let i = 1 + this.#below(12); i > 0; i--) copy[from + this.#below(to - from)] = this.#below(256);
    files.set(name, copy);
    return `flipped bytes of ${name}`;
  }

  #header(files: Files, name: string, bytes: Buffer): string {
    const end = headerEnd(bytes);
    const json = parse(bytes.subarray(8, end).toString("utf8"));
    if (json === undefined) return this.#flip(files, name, bytes);
    const { value, what } = this.#change(json);
    const text = Buffer.from(JSON.stringify(value) ?? "");
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    files.set(name, Buffer.concat([prefix, text, bytes.subarray(end)]));
    return `header of ${name}: ${what}`;
  }

  #lines(files: Files, name: string, bytes: Buffer): string {
    const lines = bytes.toString("utf8").split("\n");
    const at = this.#below(lines.length);
    const json = parse(lines[at]!);
    const kind = this.#below(8);
    let what = "removed a line";
    if (kind === 0) lines.splice(at, 1);
    else if (kind === 1) {
      lines.splice(this.#below(lines.length), 0, lines[at]!);
      what = "repeated a line";
    } else if (json === undefined) return this.#flip(files, name, bytes);
    else {
      const change = this.#change(json);
      lines[at] = JSON.stringify(change.value) ?? "";
      what = change.what;
    }
    files.set(name, Buffer.from(lines.join("\n")));
    return `line ${at + 1} of ${name}: ${what}`;
  }

  /** Replaces, removes or nudges one value somewhere in a JSON document. */
  #change(document: unknown): { value: unknown; what: string } {
    const root = structuredClone(document);
    let at = root as Record<string, unknown> | unknown[];
    const path: string[] = [];
    for (;;) {
      if (typeof at !== "object" || at === null || Object.keys(at).length === 0)
        return { value: this.#pick(nasty), what: "replaced all" };
      const key = this.#pick(Object.keys(at));
      path.push(key);
      const below = (at as Record<string, unknown>)[key];
      if (typeof below === "object" && below !== null && Object.keys(below).length > 0 && this.#below(5) > 0) {
        at = below as Record<string, unknown>;
        continue;
      }
      const how = typeof below === "number" ? this.#below(4) : this.#below(2) * 3;
      const target = at as Record<string, unknown>;
      if (how === 0) Array.isArray(at) ? at.splice(Number(key), 1) : delete target[key];
      else if (how <= 2) target[key] = (below as number) + this.#pick([1, -1, 2, 4, -8, 2 ** 33]);
      else target[key] = this.#pick(nasty);
      return { value: root, what: `${path.join(".")} = ${JSON.stringify(target[key])?.slice(0, 60)}` };
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }
}

/** Where the header of a safetensors file ends, as far as it can be told. */
function headerEnd(bytes: Buffer): number {
  return bytes.length < 8 ? bytes.length : Math.min(bytes.length, 8 + Number(bytes.readBigUInt64LE(0)));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
