import { deflateRawSync } from "node:zlib";

/** A member of an archive as a test writes it; what it claims may be a lie. */
export interface ZipMember {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly deflate?: boolean;
  /** The size it claims. */
  readonly size?: number;
  readonly method?: number;
  readonly flags?: number;
  /** Places its local header where another member's is. */
  readonly over?: string;
}

/** A zip archive of members, in order. */
export function zip(members: readonly ZipMember[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  const places = new Map<string, number>();
  let at = 0;
  for (const { name, bytes, deflate = false, size = bytes.byteLength, method, flags = 0, over } of members) {
    const data = deflate ? deflateRawSync(bytes) : Buffer.from(bytes);
    const label = Buffer.from(name);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(flags, 2);
    fields.writeUInt16LE(method ?? (deflate ? 8 : 0), 4);
    fields.writeUInt32LE(data.length, 14);
    fields.writeUInt32LE(size, 18);
    fields.writeUInt16LE(label.length, 22);
    const place = over === undefined ? at : places.get(over)!;
    if (over === undefined) {
      const local = Buffer.concat([Buffer.from("PK\x03\x04"), fields, label, data]);
      parts.push(local);
      places.set(name, at);
      at += local.length;
    }
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(place, 10);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02\x14\x00"), fields, rest, label]));
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, central, end]);
}

/** A file of torch.save around a pickle. */
export function torchArchive(pickle: Uint8Array, storages: Readonly<Record<string, Uint8Array>> = {}): Buffer {
  const data = Object.entries(storages).map(([key, bytes]) => ({ name: `x/data/${key}`, bytes }));
  return zip([{ name: "x/data.pkl", bytes: pickle }, { name: "x/byteorder", bytes: Buffer.from("little") }, ...data]);
}

/** A pickle of protocol 2 from its opcodes as text; bytes above 127 by \x escapes. */
export function pickle(opcodes: string): Buffer {
  return Buffer.from(`\x80\x02${opcodes}.`, "latin1");
}
