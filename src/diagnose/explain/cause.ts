import type { CauseId } from "../causes/catalogue.js";
import type { CauseKind } from "../causes/cause-entry.js";
import type { ParameterValue } from "../causes/hypothesis.js";
import type { Transform } from "../causes/transforms.js";
import type { Extent } from "../check/extent.js";

/** A cause as the verdict prints it. */
export interface Cause {
  readonly cause: CauseId;
  readonly kind: CauseKind;
  readonly transform: Transform;
  readonly layers: readonly number[];
  readonly units: readonly string[];
  readonly steps: readonly number[];
  readonly extent: Extent;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly statement: string;
  readonly evidence: Evidence;
  /** Causes this recording cannot separate from it. */
  readonly alternatives: readonly CauseId[];
  /** What to record to separate them. */
  readonly separate?: string;
  /** Right as long as every query and key shares it: no alarm, but a trap. */
  readonly latent?: boolean;
  /** Layers where the same rewrite would not have shown, and why. */
  readonly notVisible?: readonly { layers: readonly number[]; why: string }[];
}

/** How well a cause explains. */
export interface Evidence {
  readonly rmsZ: number | null;
  readonly rmsZExplained: number | null;
  readonly samples: number;
  readonly runnerUp: CauseId | null;
  /** Elements that are recorded bit for bit as the cause has them, of those `compared`; absent where bits decide nothing. */
  readonly equal?: number;
  readonly compared?: number;
  /** Share of elements that the spec without the cause gives bit for bit. */
  readonly equalWithout?: number;
}
