import { InputError } from "../tensor/errors.js";

/** A name that a pickle mentions, such as `torch.bfloat16`. */
export class PickledName {
  constructor(readonly name: string) {}
}

/** What a pickle may hold here: plain data, names that are known, and what they were rebuilt to. */
export type Pickled = null | boolean | number | string | Uint8Array | PickledName | object | readonly Pickled[];

/** What a reader of pickles knows: which names may stand in one, what rebuilding with them gives, and stored objects. */
export interface PickleWords {
  /** Names that stand for themselves. */
  readonly constants: ReadonlySet<string>;
  /** Names that are applied to arguments; what they mean is computed here, and nothing of the file is run. */
  readonly rebuild: ReadonlyMap<string, (args: readonly Pickled[]) => Pickled>;
  /** An object that lies outside of the pickle. */
  readonly persistent: (id: Pickled) => Pickled;
}

const maxMemo = 2 ** 22;
/** An empty dictionary takes a byte of the file, and two hundred in memory. */
const maxContainers = 2 ** 20;
const mark = Symbol("mark");

/**
 * Reads the data opcodes of Python's pickle, protocols 0 to 5: nothing is imported, called or evaluated. Dictionaries become
 * maps, lists and tuples arrays.
 * https://github.com/python/cpython/blob/main/Lib/pickletools.py
 * @param where file and member for errors.
 * @throws InputError at a name that is not known, at an opcode that is no data, and where the bytes are no pickle.
 */
export function readPickle(bytes: Uint8Array, where: string, words: PickleWords): Pickled {
  return new Unpickler(bytes, where, words).read();
}

class Unpickler {
  readonly #bytes: Buffer;
  #at = 0;
  #stack: (Pickled | typeof mark)[] = [];
  readonly #memo = new Map<number, Pickled>();
  #containers = 0;

  constructor(
    bytes: Uint8Array,
    readonly where: string,
    readonly words: PickleWords,
  ) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(): Pickled {
    for (;;) {
      const opcode = this.#unsigned(1);
      if (opcode === 0x2e) return this.#pop();
      this.#step(opcode);
    }
  }

  #step(opcode: number): void {
    switch (String.fromCharCode(opcode)) {
      case "\x80":
        if (this.#unsigned(1) > 5) throw this.#error("expected pickle protocol 5 or older");
        return;
      case "\x95":
        this.#take(8);
        return;
      case "(":
        this.#stack.push(mark);
        return;
      case "0":
        this.#stack.pop();
        return;
      case "N":
        return this.#push(null);
      case "\x88":
        return this.#push(true);
      case "\x89":
        return this.#push(false);
      case "I":
      case "L":
        return this.#push(this.#textInteger());
      case "J":
        return this.#push(this.#take(4).readInt32LE(0));
      case "K":
        return this.#push(this.#unsigned(1));
      case "M":
        return this.#push(this.#unsigned(2));
      case "\x8a":
        return this.#push(this.#longInteger(this.#unsigned(1)));
      case "\x8b":
        return this.#push(this.#longInteger(this.#unsigned(4)));
      case "F":
        return this.#push(Number(this.#line()));
      case "G":
        return this.#push(this.#take(8).readDoubleBE(0));
      case "X":
      case "T":
        return this.#push(this.#text(this.#unsigned(4)));
      case "\x8c":
      case "U":
        return this.#push(this.#text(this.#unsigned(1)));
      case "\x8d":
        return this.#push(this.#text(this.#unsigned(8)));
      case "V":
        return this.#push(this.#line());
      case "B":
        return this.#push(Uint8Array.from(this.#take(this.#unsigned(4))));
      case "C":
        return this.#push(Uint8Array.from(this.#take(this.#unsigned(1))));
      case "\x8e":
        return this.#push(Uint8Array.from(this.#take(this.#unsigned(8))));
      default:
        return this.#container(opcode);
    }
  }

  #container(opcode: number): void {
    if (this.#containers++ > maxContainers) throw this.#error(`expected at most ${maxContainers} containers`);
    switch (String.fromCharCode(opcode)) {
      case ")":
      case "]":
      case "\x8f":
        return this.#push([]);
      case "}":
        return this.#push(new Map());
      case "t":
      case "l":
      case "\x91":
        return this.#push(this.#popMarked());
      case "\x85":
        return this.#push([this.#pop()]);
      case "\x86":
        return this.#push(this.#popMany(2));
      case "\x87":
        return this.#push(this.#popMany(3));
      case "d": {
        const items = this.#popMarked();
        this.#push(new Map());
        return this.#setItems(items);
      }
      case "a":
        return this.#append([this.#pop()]);
      case "e":
      case "\x90":
        return this.#append(this.#popMarked());
      case "s":
        return this.#setItems(this.#popMany(2));
      case "u":
        return this.#setItems(this.#popMarked());
      case "p":
        return this.#remember(Number(this.#line()));
      case "q":
        return this.#remember(this.#unsigned(1));
      case "r":
        return this.#remember(this.#unsigned(4));
      case "\x94":
        return this.#remember(this.#memo.size);
      case "g":
        return this.#recall(Number(this.#line()));
      case "h":
        return this.#recall(this.#unsigned(1));
      case "j":
        return this.#recall(this.#unsigned(4));
      default:
        return this.#named(opcode);
    }
  }

  #named(opcode: number): void {
    switch (String.fromCharCode(opcode)) {
      case "c":
        return this.#push(this.#name(`${this.#line()}.${this.#line()}`));
      case "\x93": {
        const [module, name] = this.#popMany(2);
        return this.#push(this.#name(`${String(module)}.${String(name)}`));
      }
      case "Q":
        return this.#push(this.words.persistent(this.#pop()));
      case "R": {
        const [called, args] = this.#popMany(2);
        const rebuild = called instanceof PickledName ? this.words.rebuild.get(called.name) : undefined;
        if (!rebuild || !Array.isArray(args)) throw this.#error("expected data, found a call of something in the file");
        return this.#push(rebuild(args));
      }
      case "b": {
        // Attributes of a container, such as the versions that torch hangs on a state dict.
        const [built] = this.#popMany(2);
        if (!(built instanceof Map)) throw this.#error("expected data, found an object with a state of its own");
        return this.#push(built);
      }
      default:
        throw this.#error(
          `expected data, found opcode 0x${opcode.toString(16).padStart(2, "0")} at byte ${this.#at - 1}`,
        );
    }
  }

  #name(name: string): PickledName {
    if (!this.words.constants.has(name) && !this.words.rebuild.has(name))
      throw this.#error(
        `expected tensors and plain containers, found "${name.slice(0, 200)}", which reading would have to run: nothing was`,
      );
    return new PickledName(name);
  }

  #push(value: Pickled): void {
    this.#stack.push(value);
  }

  #pop(): Pickled {
    const value = this.#stack.pop();
    if (value === undefined || value === mark) throw this.#error("expected a value on the pickle's stack");
    return value as Pickled;
  }

  #popMany(count: number): Pickled[] {
    return Array.from({ length: count }, () => this.#pop()).reverse();
  }

  #popMarked(): Pickled[] {
    const start = this.#stack.lastIndexOf(mark);
    if (start < 0) throw this.#error("expected a mark on the pickle's stack");
    const values = this.#stack.slice(start + 1) as Pickled[];
    this.#stack.length = start;
    return values;
  }

  #top(): Pickled {
    const value = this.#pop();
    this.#stack.push(value);
    return value;
  }

  #append(values: Pickled[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#error("expected a list to append to");
    for (const value of values) list.push(value);
  }

  #setItems(items: Pickled[]): void {
    const map = this.#top();
    if (!(map instanceof Map) || items.length % 2 !== 0) throw this.#error("expected a dictionary and pairs for it");
    for (let i = 0; i < items.length; i += 2) map.set(items[i], items[i + 1]);
  }

  #remember(key: number): void {
    if (!(key >= 0) || this.#memo.size > maxMemo) throw this.#error("expected a memo of ordinary size");
    this.#memo.set(key, this.#top());
  }

  #recall(key: number): void {
    const value = this.#memo.get(key);
    if (value === undefined) throw this.#error(`expected memo ${key} to be set`);
    this.#push(value);
  }

  #take(length: number): Buffer {
    if (!(this.#at + length <= this.#bytes.length)) throw this.#error("the pickle ends in the middle of a value");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #unsigned(width: 1 | 2 | 4 | 8): number {
    const bytes = this.#take(width);
    return width === 8 ? Number(bytes.readBigUInt64LE(0)) : bytes.readUIntLE(0, width);
  }

  #text(length: number): string {
    return this.#take(length).toString("utf8");
  }

  #line(): string {
    const end = this.#bytes.indexOf(10, this.#at);
    if (end < 0) throw this.#error("the pickle ends in the middle of a line");
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }

  #textInteger(): number | boolean {
    const line = this.#line();
    if (line === "00" || line === "01") return line === "01";
    const value = Number(line.replace(/L$/, ""));
    if (!Number.isSafeInteger(value)) throw this.#error("expected whole numbers below 2^53");
    return value;
  }

  #longInteger(length: number): number {
    if (length > 8) throw this.#error("expected whole numbers of at most 8 bytes");
    const bytes = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    return Number(BigInt.asIntN(8 * length, value));
  }

  #error(text: string): InputError {
    return new InputError(`${this.where}: ${text}`);
  }
}
