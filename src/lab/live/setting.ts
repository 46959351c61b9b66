import type { Patch } from "../../engine/program/patch.js";

/** One state of the running engine: the faults that are in it, and what is changed besides. */
export interface Setting {
  /** As it was asked for: `layers.*.k_scale=0.1`. */
  readonly title: string;
  readonly patches: readonly Patch[];
  /**
   * What it is compared with: the same program with nothing changed, where factors are 1. Kernels and their order are
   * then the same, and every bit that differs is the change's.
   */
  readonly neutral: readonly Patch[];
}

/** One change of a setting. */
export interface Change {
  readonly title: string;
  /** The patches of the engine with it, from those without it. */
  apply(patches: readonly Patch[]): readonly Patch[];
  /** The same with nothing changed. */
  neutral(patches: readonly Patch[]): readonly Patch[];
}

/** Changes made together, over the faults of the running path. */
export function settingOf(changes: readonly Change[], faults: readonly Patch[]): Setting {
  return {
    title: changes.map(({ title }) => title).join("; "),
    patches: changes.reduce((patches, change) => change.apply(patches), faults),
    neutral: changes.reduce((patches, change) => change.neutral(patches), faults),
  };
}
