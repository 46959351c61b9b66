import type { KvLayout } from "../device/kv-store.js";
import type { AttentionModule } from "./module-names.js";

/** What an attention module is compiled for, and what its plans are told: the same for all layers that share them. */
export interface Geometry {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly pageSize: number;
  /** -1 for none. */
  readonly windowLeft: number;
  /** 0 for none. */
  readonly softCap: number;
}

/** Sizes of a head that FlashInfer's generator makes modules of both kinds for. */
export const headDims: readonly number[] = [64, 128, 256];
/** Query heads that share a KV head in the kernel without tensor cores. */
export const decodeGroups: readonly number[] = [1, 2, 3, 4, 6, 8];

/** kNHD and kHND */
export const layoutCodes: Readonly<Record<KvLayout, number>> = { NHD: 0, HND: 1 };

/** @throws RangeError when FlashInfer has no kernel for it. */
export function requireGeometry(kind: AttentionModule["kind"], geometry: Geometry): void {
  const { heads, kvHeads, headDim, pageSize, windowLeft, softCap } = geometry;
  if (!(heads > 0) || !(kvHeads > 0) || heads % kvHeads !== 0) {
    throw new RangeError(`num_qo_heads ${heads} is not a multiple of num_kv_heads ${kvHeads}`);
  }
  if (!headDims.includes(headDim)) {
    throw new RangeError(`head_dim ${headDim}: FlashInfer has modules for ${headDims.join(", ")}`);
  }
  const group = heads / kvHeads;
  if (kind === "decode" && !decodeGroups.includes(group)) {
    throw new RangeError(`group size ${group}: FlashInfer's decode kernel takes ${decodeGroups.join(", ")}`);
  }
  if (!Number.isInteger(pageSize) || pageSize < 1) throw new RangeError(`page_size: ${pageSize} is not positive`);
  if (!Number.isInteger(windowLeft) || windowLeft < -1) {
    throw new RangeError(`window_left ${windowLeft}: expected -1 or more`);
  }
  if (!(softCap >= 0)) throw new RangeError(`logits_soft_cap ${softCap}: expected 0 (none) or more`);
}

/** The module for batches of one row per sequence: without tensor cores where it has the group size. */
export function decodeKind({ heads, kvHeads }: Pick<Geometry, "heads" | "kvHeads">): AttentionModule["kind"] {
  return decodeGroups.includes(heads / kvHeads) ? "decode" : "prefill";
}

/** The module that carries a geometry out. */
export function moduleOf(kind: AttentionModule["kind"], { headDim, windowLeft, softCap }: Geometry): AttentionModule {
  return { kind, headDim, window: windowLeft >= 0, softCap: softCap > 0 };
}
