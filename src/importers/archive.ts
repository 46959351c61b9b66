import { inflateRawSync } from "node:zlib";
import { InputError } from "../tensor/errors.js";
import { StoredFile } from "./stored-file.js";

/** One file of an archive. */
export interface Member {
  readonly name: string;
  /** Whether its bytes lie in the archive as they are. */
  readonly stored: boolean;
  /** First of its bytes in the archive, and how many there are there. */
  readonly start: number;
  readonly packedSize: number;
  readonly size: number;
}

const maxMembers = 2 ** 17;
const maxDirectoryBytes = 2 ** 26;
/** All that is unpacked from one archive, together. What is stored as it is stays on disk. */
const maxUnpackedBytes = 2 ** 30;
/** Deflate gives at most 1032 bytes for one. */
const maxRatio = 1032;

const endSize = 22;
const wideLocatorSize = 20;
const wideEndSize = 56;
const directoryEntrySize = 46;
const localHeaderSize = 30;
const wide = 0xffffffff;

/**
 * A zip archive, as torch.save and np.savez write them: members by name, read by ranges. Names are keys and never paths.
 * https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
export class Archive {
  readonly file: StoredFile;
  readonly members: ReadonlyMap<string, Member>;
  #unpacked = 0;

  /** @throws InputError when it is no archive, or its members overlap, are encrypted, or claim more than they can hold. */
  constructor(
    readonly path: string,
    expected: string,
  ) {
    this.file = new StoredFile(path, expected);
    const { start, size, count } = this.#directoryPlace(expected);
    if (count > maxMembers) throw this.#error(`expected at most ${maxMembers} members, found ${count}`);
    if (size > maxDirectoryBytes) throw this.#error(`expected a directory of at most ${maxDirectoryBytes} bytes`);
    this.members = this.#readDirectory(this.file.read(start, size), count, start);
  }

  /** The bytes of a member. */
  bytes(member: Member, limit = maxUnpackedBytes): Uint8Array {
    if (member.size > limit)
      throw this.#error(`"${member.name}": expected at most ${limit} bytes, found ${member.size}`);
    const packed = () => this.file.read(member.start, member.packedSize);
    if (member.stored) return packed();
    this.#unpacked += member.size;
    if (this.#unpacked > maxUnpackedBytes)
      throw this.#error(`expected at most ${maxUnpackedBytes} bytes to unpack, found more: save it uncompressed`);
    try {
      const bytes = inflateRawSync(packed(), { maxOutputLength: Math.max(1, member.size) });
      if (bytes.byteLength === member.size) return new Uint8Array(bytes);
    } catch {
      // What deflate cannot read is told below.
    }
    throw this.#error(`"${member.name}": expected ${member.size} bytes of deflated data, found others`);
  }

  #error(text: string): InputError {
    return new InputError(`${this.path}: ${text}`);
  }

  /** Where the central directory lies, from the record at the end of the archive. */
  #directoryPlace(expected: string): { start: number; size: number; count: number } {
    const { size } = this.file;
    const tailLength = Math.min(size, endSize + 0xffff);
    const tail = Buffer.from(this.file.read(size - tailLength, tailLength));
    let end = tail.length - endSize;
    while (
      end >= 0 &&
      !(tail.readUInt32LE(end) === 0x06054b50 && end + endSize + tail.readUInt16LE(end + 20) === tail.length)
    )
      end--;
    if (end < 0) throw this.#error(`expected ${expected}, found no zip archive`);
    const narrow = {
      count: tail.readUInt16LE(end + 10),
      size: tail.readUInt32LE(end + 12),
      start: tail.readUInt32LE(end + 16),
    };
    const locator = end - wideLocatorSize;
    const isWide = locator >= 0 && tail.readUInt32LE(locator) === 0x07064b50;
    const place = isWide ? this.#widePlace(tail, locator) : narrow;
    const before = size - tail.length + end;
    if (!(place.start + place.size <= before)) throw this.#error("expected a zip directory within the file");
    return place;
  }

  #widePlace(tail: Buffer, locator: number): { start: number; size: number; count: number } {
    const at = this.#number(tail, locator + 8);
    if (at + wideEndSize > this.file.size) throw this.#error("expected a zip directory within the file");
    const record = Buffer.from(this.file.read(at, wideEndSize));
    if (record.readUInt32LE(0) !== 0x06064b50) throw this.#error("expected the end of a zip64 directory");
    return { count: this.#number(record, 32), size: this.#number(record, 40), start: this.#number(record, 48) };
  }

  #number(bytes: Buffer, at: number): number {
    const value = bytes.readBigUInt64LE(at);
    if (value > Number.MAX_SAFE_INTEGER) throw this.#error("expected sizes below 2^53 in the zip directory");
    return Number(value);
  }

  #readDirectory(bytes: Uint8Array, count: number, end: number): Map<string, Member> {
    const directory = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const members = new Map<string, Member>();
    const headers: { at: number; member: Member }[] = [];
    let at = 0;
    for (let i = 0; i < count; i++) {
      if (at + directoryEntrySize > directory.length || directory.readUInt32LE(at) !== 0x02014b50)
        throw this.#error(`expected ${count} members in the zip directory, found ${i}`);
      const nameLength = directory.readUInt16LE(at + 28);
      const extraLength = directory.readUInt16LE(at + 30);
      const next = at + directoryEntrySize + nameLength + extraLength + directory.readUInt16LE(at + 32);
      if (next > directory.length) throw this.#error("expected a zip directory within its size");
      const name = directory.toString("utf8", at + directoryEntrySize, at + directoryEntrySize + nameLength);
      if (/^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)/.test(name) || name.includes("\0"))
        throw this.#error(`member "${name}": expected a name within the archive`);
      if (members.has(name)) throw this.#error(`member "${name}": expected every name once`);
      if (directory.readUInt16LE(at + 8) & 1) throw this.#error(`member "${name}": expected no encryption`);
      const method = directory.readUInt16LE(at + 10);
      if (method !== 0 && method !== 8)
        throw this.#error(`member "${name}": expected it stored or deflated, found compression method ${method}`);
      const extra = directory.subarray(at + directoryEntrySize + nameLength, next);
      const [size, packedSize, header] = this.#sizes(directory, at, extra.subarray(0, extraLength));
      const stored = method === 0;
      if (stored ? size !== packedSize : size > packedSize * maxRatio)
        throw this.#error(`member "${name}": ${packedSize} bytes of the archive cannot hold the ${size} it claims`);
      const member = { name, stored, start: this.#dataStart(header, end, name), packedSize, size };
      members.set(name, member);
      headers.push({ at: header, member });
      at = next;
    }
    this.#expectApart(headers, end);
    return members;
  }

  /** Size, packed size and place of the local header; those that 32 bits do not hold stand in the extra field. */
  #sizes(directory: Buffer, at: number, extra: Buffer): number[] {
    const fields = [directory.readUInt32LE(at + 24), directory.readUInt32LE(at + 20), directory.readUInt32LE(at + 42)];
    for (let from = 0; from + 4 <= extra.length; ) {
      const length = extra.readUInt16LE(from + 2);
      if (extra.readUInt16LE(from) === 1) {
        let place = from + 4;
        return fields.map((field) => {
          if (field !== wide) return field;
          if (place + 8 > Math.min(extra.length, from + 4 + length))
            throw this.#error("expected 64-bit sizes in the zip directory");
          place += 8;
          return this.#number(extra, place - 8);
        });
      }
      from += 4 + length;
    }
    return fields;
  }

  #dataStart(header: number, end: number, name: string): number {
    if (header + localHeaderSize > end) throw this.#error(`member "${name}": expected its header within the file`);
    const local = Buffer.from(this.file.read(header, localHeaderSize));
    if (local.readUInt32LE(0) !== 0x04034b50) throw this.#error(`member "${name}": expected a local header`);
    return header + localHeaderSize + local.readUInt16LE(26) + local.readUInt16LE(28);
  }

  /** Members that share bytes are how a small archive claims to hold a large one. */
  #expectApart(headers: { at: number; member: Member }[], end: number): void {
    let last = 0;
    for (const { at, member } of headers.sort((a, b) => a.at - b.at)) {
      if (at < last) throw this.#error(`member "${member.name}": expected it apart from the others, found an overlap`);
      last = member.start + member.packedSize;
      if (last > end) throw this.#error(`member "${member.name}": expected its bytes within the file`);
    }
  }
}
