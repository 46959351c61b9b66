import { basename, extname, join } from "node:path";
import type { DumpFormat, DumpTensor } from "../dump.js";
import { isFile, isFolder, namesIn } from "../folder.js";
import { readArray } from "./numpy.js";
import { dumpTensor, readTorchFile, tensorsWithin } from "./torch.js";

const filesIn = (path: string) => namesIn(path).filter((name) => /\.(npy|pt)$/.test(name) && isFile(join(path, name)));

/** A folder of .npy and .pt files, a value in each: named by their files, one forward pass. */
export const arrayFolder: DumpFormat = {
  id: "folder",
  title: "a folder of .npy or .pt files",
  claims: (path) => isFolder(path) && filesIn(path).length > 0,
  open(path) {
    const tensors = filesIn(path).flatMap((file): DumpTensor[] => {
      const name = basename(file, extname(file));
      const where = join(path, file);
      if (file.endsWith(".npy")) return [readArray(where, name)];
      const found = [...tensorsWithin(readTorchFile(where), where)];
      return found.map(([key, tensor]) => dumpTensor(tensor, key === "" ? name : `${name}.${key}`, 0, `${file}/`));
    });
    return { path, format: this.title, tensors, skipped: [], ordered: false };
  },
};
