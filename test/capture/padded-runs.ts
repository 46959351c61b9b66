import { join } from "node:path";
import { promptSteps } from "../../src/lab/batch.js";
import type { LabModel } from "../../src/lab/model.js";
import type { BatchPadding } from "../../src/lab/padded-batch.js";
import { randomGenerator } from "../../src/lab/random.js";
import { type RunOptions, runLab } from "../../src/lab/run.js";
import { tinyFamilies, writeTinyModel } from "../../src/lab/tiny-model.js";
import { encode } from "../../src/tensor/dtype.js";
import { SafetensorsFile, type TensorBytes, writeSafetensors } from "../../src/tensor/safetensors.js";

const config = { num_hidden_layers: 2, vocab_size: 300, pad_token_id: 0, bos_token_id: 1, eos_token_id: 2 };

/** Three sequences of 5, 9 and 2 tokens, none of them a special one. */
const random = randomGenerator(3);
export const prompts = [5, 9, 2].map((length) => Array.from({ length }, () => 3 + Math.floor(random() * 297)));

/** Makes correct padded runs as Hugging Face records them, and variants of them, in a folder. */
export class PaddedRuns {
  readonly models: readonly LabModel[];
  #count = 0;

  constructor(readonly folder: string) {
    this.models = tinyFamilies.map((family) => writeTinyModel(join(folder, family), { family, seed: 7, config }));
  }

  /** A path of no file yet. */
  fresh(): string {
    return join(this.folder, `run-${this.#count++}.safetensors`);
  }

  /** Records the prompts, padded to nine columns: on the left, RoPE counting columns, with the mask unless told otherwise. */
  record(padding: Partial<BatchPadding> = {}, options: Partial<RunOptions> = {}): string {
    const path = this.fresh();
    runLab({
      model: this.models[0]!,
      steps: promptSteps(prompts),
      store: "bfloat16",
      path,
      padding: { side: "left", token: 0, rotary: "columns", recorded: ["attention_mask"], ...padding },
      ...options,
    });
    return path;
  }

  /** A copy of a plain recording with some tensors changed, added or (undefined) left out. */
  changed(path: string, change: Record<string, Omit<TensorBytes, "name"> | undefined>): string {
    const file = new SafetensorsFile(path);
    const kept = [...file.entries.values()]
      .filter(({ name }) => !(name in change))
      .map((entry) => ({ name: entry.name, dtype: entry.dtype, shape: entry.shape, bytes: file.readBytes(entry) }));
    file.close();
    const own = Object.entries(change).flatMap(([name, tensor]) => (tensor ? [{ name, ...tensor }] : []));
    const out = this.fresh();
    writeSafetensors(out, [...kept, ...own]);
    return out;
  }
}

/** A tensor of integers without its name. */
export function integers(shape: number[], values: number[]): Omit<TensorBytes, "name"> {
  return { dtype: "int64", shape, bytes: encode(values, "int64") };
}
