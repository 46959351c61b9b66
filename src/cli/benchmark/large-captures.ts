import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { randomGenerator } from "../../diagnose/bits/sample.js";
import { byteWidth, encode } from "../../tensor/dtype.js";

export type LargeDType = "bfloat16" | "float32";

const tokens = 4096;
const columns = 4096;
/** Elements of noise that are made; files repeat them from changing offsets. */
const poolElements = 2 ** 21;

/** Two recordings of the same values, the second with rounding-sized errors, in a folder of their own. */
export interface LargeCaptures {
  readonly reference: string;
  readonly target: string;
  readonly bytes: number;
  remove(): void;
}

/** Writes two plain recordings of about `bytes` each below `folder`. */
export function writeLargeCaptures(folder: string, bytes: number, dtype: LargeDType): LargeCaptures {
  const directory = mkdtempSync(join(folder, "faultline-bench-"));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  try {
    const count = Math.max(1, Math.round(bytes / (tokens * columns * byteWidth(dtype))));
    const [reference, target] = [join(directory, "reference.safetensors"), join(directory, "target.safetensors")];
    const random = randomGenerator(1);
    // The sum of four uniform numbers stands for a normal one.
    const values = Float64Array.from({ length: poolElements }, () => random() + random() + random() + random() - 2);
    const written = writeRecording(reference, encode(values, dtype), count, dtype);
    const others = values.map((value) => value * (1 + (random() - 0.5) * 0.01));
    writeRecording(target, encode(others, dtype), count, dtype);
    return { reference, target, bytes: written, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** A plain recording of `count` MLP outputs [1, tokens, columns], written piece by piece. */
function writeRecording(path: string, pool: Uint8Array, count: number, dtype: LargeDType): number {
  const ids = encode(
    Array.from({ length: tokens }, (_, i) => i),
    "int32",
  );
  const size = tokens * columns * byteWidth(dtype);
  const code = dtype === "bfloat16" ? "BF16" : "F32";
  const header: Record<string, unknown> = {
    input_ids: { dtype: "I32", shape: [1, tokens], data_offsets: [0, ids.byteLength] },
  };
  for (let i = 0; i < count; i++) {
    const begin = ids.byteLength + i * size;
    header[`model.layers.${i}.mlp`] = { dtype: code, shape: [1, tokens, columns], data_offsets: [begin, begin + size] };
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.length));
  const descriptor = openSync(path, "wx");
  try {
    let written = 0;
    const write = (bytes: Uint8Array) => {
      for (let done = 0; done < bytes.byteLength; ) done += writeSync(descriptor, bytes, done);
      written += bytes.byteLength;
    };
    for (const bytes of [prefix, Buffer.from(text), ids]) write(bytes);
    for (let i = 0; i < count; i++) {
      const turn = ((i * 8192) % poolElements) * byteWidth(dtype);
      for (let left = size; left > 0; left -= pool.byteLength) {
        write(pool.subarray(turn));
        write(pool.subarray(0, turn));
      }
    }
    return written;
  } finally {
    closeSync(descriptor);
  }
}
