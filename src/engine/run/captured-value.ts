import type { DType } from "../../tensor/dtype.js";

/** A dense value in memory at one moment, as a producer or a consumer addresses it. */
export interface CapturedDense {
  readonly kind: "dense";
  readonly storage: string;
  readonly epoch: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
  /** From the view's offset to its last element. */
  readonly bytes: Uint8Array;
}

/** KV pages as a writer or a reader addresses them; strides are in the order page, slot, head, channel. */
export interface CapturedPages {
  readonly kind: "paged";
  readonly storage: string;
  readonly epoch: number;
  readonly dtype: DType;
  readonly layout: "NHD" | "HND";
  readonly pageSize: number;
  readonly heads: number;
  readonly headDim: number;
  readonly strides: readonly [number, number, number, number];
  readonly offset: number;
  readonly pages: readonly number[];
  /** The page stride's worth of elements of each of `pages`, in that order. */
  readonly pageBytes: readonly Uint8Array[];
}

export interface CapturedValue {
  /** Name in the spec. */
  readonly name: string;
  /** output: as its producer wrote it; input: as a consumer addressed it. */
  readonly role: "output" | "input";
  /** The kernel that wrote or read it. */
  readonly by: string;
  readonly view: CapturedDense | CapturedPages;
}

/** Receives values in production order. `wants` keeps what is copied small. */
export interface CaptureSink {
  wants(name: string): boolean;
  value(value: CapturedValue): void;
}
