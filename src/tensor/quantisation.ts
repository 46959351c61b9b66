import type { DType } from "./element-type.js";
import type { NarrowFormat } from "./narrow-format.js";

/** A rectangle of a matrix [rows, columns] whose elements share one scale; Infinity: all of them. */
export interface ScaleTile {
  readonly rows: number;
  readonly columns: number;
}

/**
 * What a scale is kept in. Powers of two (E8M0, a byte of exponents) after the largest magnitude of the tile: the number
 * type's own largest exponent at its exponent (OCP), the same after rounding it up from 1.75 (compressed-tensors, Quark), or the
 * least that brings it into range (DeepGEMM, NVIDIA's conversions).
 */
export type ScaleType =
  | "float32"
  | "float16"
  | "bfloat16"
  | "e4m3"
  | "power-of-two"
  | "power-of-two-nearest"
  | "power-of-two-above";

/** How values became narrow numbers: round(x / scale) · scale, one scale per tile. */
export interface Quantisation {
  readonly format: NarrowFormat;
  readonly tile: ScaleTile;
  /**
   * What the scale follows from: the largest magnitude of the tile, its smallest and largest value (with a zero point), the
   * value of largest magnitude with its sign (llama.cpp's Q4_0), or nothing: a plain cast.
   */
  readonly scaling: "magnitude" | "range" | "signed" | "none";
  /** What the scale itself is kept in. */
  readonly scaleType: ScaleType;
  /** What scales are multiplied by before they are kept, and divided by again: NVFP4's global scale. */
  readonly global?: number | undefined;
  /** Whether a tile's smallest and largest value are joined with 0, where there is a zero point. */
  readonly aroundZero?: boolean | undefined;
  /** Whether numbers are left as they are, without their scales: a mistake. */
  readonly unscaled?: boolean | undefined;
  /** The scale itself, where it was fixed beforehand. */
  readonly fixed?: number | undefined;
  /** Type that scales, quotients and products are rounded to: "fake" quantisation in a run's own type; float32 unless given. */
  readonly arithmetic?: DType | undefined;
}
