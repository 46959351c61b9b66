import type { Graph } from "../spec/graph.js";
import { type AttentionAttributes, attention } from "../spec/ops/attention.js";
import { rope } from "../spec/ops/rope.js";
import type { RopeAttributes } from "../spec/ops/rope-attributes.js";
import type { RotaryConvention, Step } from "../spec/rows.js";
import { encode } from "../tensor/dtype.js";
import type { TensorBytes } from "../tensor/safetensors.js";

/** How sequences of unequal length become one batch, as Hugging Face runs it. */
export interface BatchPadding {
  readonly side: "left" | "right";
  /** Token at padded places. */
  readonly token: number;
  /** What RoPE counts: generate() counts the tokens of a sequence, a plain forward the columns of the batch. */
  readonly rotary: RotaryConvention;
  /** Tensors recorded beside `input_ids`. */
  readonly recorded: readonly ("attention_mask" | "position_ids")[];
}

/** A step padded to its longest sequence. */
export interface PaddedBatch {
  readonly step: Step;
  /** [batch, tokens]: 1 for a token, 0 for padding. */
  readonly mask: readonly number[];
  /** Position RoPE rotates each place by; 1 at padding where tokens are counted. */
  readonly positions: readonly number[];
  readonly tensors: readonly TensorBytes[];
}

/** Pads the sequences of a step with `padding.token`, on one side, to the longest of them. */
export function padBatch(step: Step, padding: BatchPadding): PaddedBatch {
  const batch = step.seqIds.length;
  const lengths = step.seqIds.map((_, b) => step.qoIndptr[b + 1]! - step.qoIndptr[b]!);
  const tokens = Math.max(...lengths);
  const tokenIds: number[] = [];
  const mask: number[] = [];
  const positions: number[] = [];
  for (let b = 0; b < batch; b++) {
    const first = padding.side === "left" ? tokens - lengths[b]! : 0;
    for (let column = 0; column < tokens; column++) {
      const place = column - first;
      const real = place >= 0 && place < lengths[b]!;
      tokenIds.push(real ? step.tokenIds[step.qoIndptr[b]! + place]! : padding.token);
      mask.push(real ? 1 : 0);
      positions.push(padding.rotary === "columns" ? column : real ? place : 1);
    }
  }
  const shape = [batch, tokens];
  const values = { attention_mask: mask, position_ids: positions };
  return {
    step: { ...step, tokenIds, qoIndptr: Array.from({ length: batch + 1 }, (_, b) => b * tokens) },
    mask,
    positions,
    tensors: padding.recorded.map((name) => ({ name, dtype: "int64", shape, bytes: encode(values[name], "int64") })),
  };
}

/** The same model where no query sees a padded key and RoPE takes the batch's positions, for the rows of one step. */
export function underPadding(graph: Graph, { mask, positions, step }: PaddedBatch): Graph {
  const tokens = mask.length / step.seqIds.length;
  const changed = [...graph.nodes.values()].flatMap((node) => {
    if (node.op.kind === "attention") {
      const a = node.op.attributes as unknown as AttentionAttributes;
      const visible = (row: number, position: number) => mask[row - (row % tokens) + position] === 1;
      return [{ ...node, op: attention({ ...a, visible, emptyRow: "mean" }) }];
    }
    if (node.op.kind !== "rope") return [];
    const a = node.op.attributes as unknown as RopeAttributes;
    return [{ ...node, op: rope({ ...a, positionOf: (row) => positions[row]! }) }];
  });
  return graph.with(changed);
}
