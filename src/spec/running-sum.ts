import { type DType, floatFormat, roundTo, unitInLastPlace } from "../tensor/dtype.js";
import { flipVariance } from "./noise.js";

/** A sum of which every partial sum is stored, with its error: flips of the terms, and those that they cause. */
export class RunningSum {
  value = 0;
  /** Second moment of the error of `value`. */
  variance = 0;
  /** The largest single error in it. */
  jump = 0;

  /** @param store type of the partial sums; a float type. */
  constructor(readonly store: DType) {}

  /** @param variance error of `term`. @param jump the largest single error in that. */
  add(term: number, variance: number, jump: number): void {
    const format = floatFormat(this.store)!;
    const sum = this.value + term;
    const ulp = unitInLastPlace(sum, format);
    // An error of whole ulps passes as it is; one of a smaller ulp may carry the sum over the middle.
    const coarser = ulp > unitInLastPlace(this.value, format);
    if (coarser) this.variance = flipVariance(sum, this.variance, this.store, this.jump);
    this.variance += flipVariance(sum, variance, this.store, jump);
    this.jump = this.variance > 0 ? Math.max(this.jump, jump, ulp) : 0;
    this.value = roundTo(sum, this.store);
  }
}
