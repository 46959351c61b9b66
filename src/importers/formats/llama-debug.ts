import { basename, dirname, join } from "node:path";
import { contiguousStrides } from "../../capture/writer.js";
import type { DType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import type { DumpFormat, DumpTensor } from "../dump.js";
import { isFile } from "../folder.js";
import { StoredFile } from "../stored-file.js";

/** `llamacpp-MODEL.bin` beside `llamacpp-MODEL-tokens.bin`. */
function tokensBeside(path: string): string | undefined {
  const found = /^(llamacpp-.+?)(-embeddings)?\.bin$/.exec(basename(path));
  return found && !found[1]!.endsWith("-tokens")
    ? join(dirname(path), `${found[1]}${found[2] ?? ""}-tokens.bin`)
    : undefined;
}

function flat(path: string, name: string, dtype: DType): DumpTensor {
  const file = new StoredFile(path, "numbers that llama-debug wrote");
  if (file.size === 0 || file.size % 4 !== 0)
    throw new InputError(`${path}: expected whole numbers of 4 bytes, found ${file.size} bytes`);
  const shape = dtype === "int32" ? [file.size / 4] : [1, file.size / 4];
  const entry = { name, dtype, shape, start: 0, byteLength: file.size };
  return {
    name,
    step: 0,
    dtype,
    shape,
    strides: contiguousStrides(shape),
    first: 0,
    storage: name,
    source: { file, entry },
  };
}

/**
 * What llama.cpp's `llama-debug --save-logits` writes: the prompt's tokens and the logits of the last one. Other values it
 * prints, and cut short: nothing to read.
 * https://github.com/ggml-org/llama.cpp/blob/master/examples/debug/debug.cpp
 */
export const llamaDebug: DumpFormat = {
  id: "llama-debug",
  title: "llama.cpp's llama-debug --save-logits",
  claims(path) {
    const tokens = tokensBeside(path);
    return tokens !== undefined && isFile(path) && isFile(tokens);
  },
  open(path) {
    const name = path.endsWith("-embeddings.bin") ? "embeddings" : "logits";
    const tensors = [flat(tokensBeside(path)!, "tokens", "int32"), flat(path, name, "float32")];
    return { path, format: this.title, tensors, skipped: [], tokens: { input_ids: "tokens" }, ordered: true };
  },
};
