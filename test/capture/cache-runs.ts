import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ValueEvent } from "../../src/capture/format.js";
import { randomSteps } from "../../src/lab/batch.js";
import type { LabModel } from "../../src/lab/model.js";
import type { CacheLayout } from "../../src/lab/paged-cache.js";
import { randomGenerator } from "../../src/lab/random.js";
import { type RunOptions, runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";

/** A line of events.jsonl of a value. */
export type ChangedEvent = Omit<ValueEvent, "view"> & { view: Record<string, unknown> };

/** Makes correct runs with a paged KV cache, recorded as capture directories, in a folder. */
export class CacheRuns {
  readonly model: LabModel;
  #count = 0;

  constructor(
    readonly folder: string,
    config: Record<string, unknown> = {},
  ) {
    this.model = writeTinyModel(join(folder, "model"), {
      family: "qwen3",
      seed: 5,
      config: { num_hidden_layers: 2, vocab_size: 300, ...config },
    });
  }

  /** Records two sequences over three steps, pages of four entries. */
  record(cache: Partial<CacheLayout> = {}, options: Partial<RunOptions> = {}): string {
    const path = join(this.folder, `run-${this.#count++}`);
    const lengths = [
      [6, 3],
      [1, 5],
      [1, 1],
    ];
    const store = options.store ?? "bfloat16";
    runLab({
      model: this.model,
      steps: randomSteps(randomGenerator(6), this.model.config.vocabularySize, lengths),
      store,
      path,
      cache: { layout: "NHD", pageSize: 4, dtype: store, ...cache },
      ...options,
    });
    return path;
  }
}

/** Rewrites the value events of a capture in place; those that become undefined are left out. */
export function changeEvents(path: string, change: (event: ChangedEvent) => ChangedEvent | undefined): void {
  const file = join(path, "events.jsonl");
  const lines = readFileSync(file, "utf8").trim().split("\n");
  const changed = lines.flatMap((line) => {
    const event = JSON.parse(line);
    const kept = event.event === "value" ? change(event) : event;
    return kept ? [JSON.stringify(kept)] : [];
  });
  writeFileSync(file, `${changed.join("\n")}\n`);
}
