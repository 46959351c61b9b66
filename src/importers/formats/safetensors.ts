import { statSync } from "node:fs";
import { contiguousStrides } from "../../capture/writer.js";
import { SafetensorsFile } from "../../tensor/safetensors.js";
import type { DumpFormat } from "../dump.js";
import { StoredFile } from "../stored-file.js";

/** A safetensors file whose tensors have any names: one forward pass. */
export const safetensorsFile: DumpFormat = {
  id: "safetensors",
  title: "a safetensors file",
  claims: (path) => path.endsWith(".safetensors") && (statSync(path, { throwIfNoEntry: false })?.isFile() ?? false),
  open(path) {
    const header = new SafetensorsFile(path);
    header.close();
    const file = new StoredFile(path, "a safetensors file");
    const tensors = [...header.entries.values()]
      .sort((a, b) => a.start - b.start)
      .map((entry) => {
        const { name, dtype, shape } = entry;
        const strides = contiguousStrides(shape);
        return { name, step: 0, dtype, shape, strides, first: 0, storage: name, source: { file, entry } };
      });
    // Writers of the format sort by type and name: places say nothing.
    return { path, format: this.title, tensors, skipped: [], ordered: false };
  },
};
