import { statSync } from "node:fs";
import { basename } from "node:path";
import type { TensorSource } from "../../capture/capture.js";
import { Archive } from "../archive.js";
import type { DumpFormat, DumpTensor } from "../dump.js";
import { headerBytes, readArrayHeader } from "../numpy-array.js";
import { HeldFile, StoredFile } from "../stored-file.js";

const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/** One array in a .npy file. */
export function readArray(path: string, name: string): DumpTensor {
  const file = new StoredFile(path, "a .npy file");
  const header = readArrayHeader(file.read(0, Math.min(headerBytes, file.size)), file.size, path);
  return tensorOf(name, header, (entry) => ({ file, entry }));
}

function tensorOf(
  name: string,
  { dtype, shape, strides, start, byteLength }: ReturnType<typeof readArrayHeader>,
  source: (entry: TensorSource["entry"]) => TensorSource,
): DumpTensor {
  const entry = { name, dtype, shape, start, byteLength };
  return { name, step: 0, dtype, shape, strides, first: 0, storage: name, source: source(entry) };
}

/** A file of np.save: one array. */
export const numpyArray: DumpFormat = {
  id: "npy",
  title: "a file of np.save",
  claims: (path) => path.endsWith(".npy") && isFile(path),
  open(path) {
    const tensors = [readArray(path, basename(path, ".npy"))];
    return { path, format: this.title, tensors, skipped: [], ordered: true };
  },
};

/** A file of np.savez or np.savez_compressed: arrays by name, one forward pass. */
export const numpyArchive: DumpFormat = {
  id: "npz",
  title: "a file of np.savez",
  claims: (path) => path.endsWith(".npz") && isFile(path),
  open(path) {
    const archive = new Archive(path, "a file that np.savez wrote");
    const tensors: DumpTensor[] = [];
    const skipped: { value: string; why: string }[] = [];
    for (const member of archive.members.values()) {
      if (!member.name.endsWith(".npy")) {
        skipped.push({ value: member.name, why: "not a .npy array" });
        continue;
      }
      const where = `${path}: ${member.name}`;
      const bytes = member.stored ? undefined : archive.bytes(member);
      const head = bytes ?? archive.file.read(member.start, Math.min(headerBytes, member.size));
      const header = readArrayHeader(head.subarray(0, headerBytes), member.size, where);
      const file = bytes ? new HeldFile(path, bytes) : archive.file;
      const place = (entry: TensorSource["entry"]) => ({
        file,
        entry: bytes ? entry : { ...entry, start: entry.start + member.start },
      });
      tensors.push(tensorOf(member.name.slice(0, -".npy".length), header, place));
    }
    return { path, format: this.title, tensors, skipped, ordered: true };
  },
};
