import type { Graph } from "../../spec/graph.js";
import type { BatchBuffer } from "./batch-buffer.js";
import type { KvStore } from "./kv-store.js";
import type { Place } from "./places.js";
import type { RotaryTables } from "./rotary-tables.js";
import type { TokenChoice } from "./token-choice.js";
import type { Weights } from "./weights.js";

/** What the kernels of one path find in device memory. */
export interface PathMemory {
  readonly graph: Graph;
  readonly maxRows: number;
  readonly maxSequences: number;
  readonly weights: Weights;
  readonly batch: BatchBuffer;
  readonly store: KvStore;
  readonly angles: RotaryTables;
  readonly choice: TokenChoice;
  /** Value that tokens are chosen from, [sequences, vocabulary]. */
  readonly logits: Place;
}
