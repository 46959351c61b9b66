import type { DType } from "./element-type.js";
import type { NarrowFormat } from "./narrow-format.js";

/** A rectangle of a matrix [rows, columns] whose elements share one scale; Infinity: all of them. */
export interface ScaleTile {
  readonly rows: number;
  readonly columns: number;
}

/** How values became narrow numbers: round(x / scale) · scale, one scale per tile. */
export interface Quantisation {
  readonly format: NarrowFormat;
  readonly tile: ScaleTile;
  /**
   * What the scale follows from: the largest magnitude of the tile, its smallest and largest value (with a zero point), the
   * value of largest magnitude with its sign (llama.cpp's Q4_0), or nothing: a plain cast.
   */
  readonly scaling: "magnitude" | "range" | "signed" | "none";
  /** The type the scale itself is kept in; "power-of-two" for microscaling formats. */
  readonly scaleType: "float32" | "float16" | "bfloat16" | "power-of-two";
  /** The scale itself, where it was fixed beforehand. */
  readonly fixed?: number | undefined;
  /** Type that scales, quotients and products are rounded to: "fake" quantisation in a run's own type; float32 unless given. */
  readonly arithmetic?: DType | undefined;
}
