import type { Rotation } from "./rotation.js";

/**
 * What a path does, one thing after the other, in the spec's words: each step names the values of the spec that it
 * computes, and parameters by their names in the checkpoint. What a step reads and leaves behind follows from the graph
 * (dataflow.ts); which kernels carry it out is the back end's business.
 */
export type Step = KernelStep | HostStep;

/** A step that a back end's kernels carry out. */
export type KernelStep = EmbedStep | NormStep | ProjectStep | RotateStep | AppendStep | AttendStep | PointwiseStep;

interface Named {
  /** What measurements and recordings call it. */
  readonly label: string;
  /** Every value of the spec that the step computes, also those that never leave it, in execution order. */
  readonly computes: readonly string[];
}

/** A token's row of a table. */
export interface EmbedStep extends Named {
  readonly kind: "embed";
  readonly table: string;
  readonly output: string;
}

/** RMSNorm over groups of `width` channels. */
export interface NormStep extends Named, Norm {
  readonly kind: "norm";
  readonly input: string;
  readonly output: string;
  readonly width: number;
}

export interface Norm {
  readonly weight: string;
  readonly epsilon: number;
}

/** Products with weight matrices that share their input, and what is fused around them. */
export interface ProjectStep extends Named {
  readonly kind: "project";
  readonly input: string;
  /** A value per weight; the one product with `gated`. */
  readonly outputs: readonly string[];
  /** Several only where they follow one another in device memory. */
  readonly weights: readonly string[];
  /** One per weight, or none. */
  readonly biases: readonly string[];
  /** The last row of every sequence alone. */
  readonly lastRows: boolean;
  /** RMSNorm of the input first. */
  readonly norm?: Norm;
  /** SiLU(first product) · second product. */
  readonly gated?: boolean;
  /** Value added to the product. */
  readonly residual?: string;
  /** The input arrives as states of split attention, which the product merges. */
  readonly merges?: boolean;
}

/** RoPE of the query or the key heads. */
export interface RotateStep extends Named {
  readonly kind: "rotate";
  readonly input: string;
  readonly output: string;
  readonly rotation: Rotation;
}

/** Keys or values into the slots of a paged cache; with `prologue`, everything from the projections on. */
export interface AppendStep extends Named {
  readonly kind: "append";
  /** Caches with what is appended to each. */
  readonly caches: readonly AppendedCache[];
  readonly prologue?: Prologue;
}

export interface AppendedCache {
  readonly cache: string;
  readonly input: string;
  readonly holds: "keys" | "values";
}

/** QK-norm and RoPE of neighbouring q, k and v rows, inside the step that needs them. */
export interface Prologue {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** QK-norm of queries and of keys. */
  readonly norms?: { readonly query: Norm; readonly key: Norm };
  readonly rotation: Rotation;
  readonly rotatedQuery: string;
  readonly rotatedKey: string;
  readonly keyHeads: number;
}

/** Attention over the paged keys and values of each row's sequence. */
export interface AttendStep extends Named, AttentionMask {
  readonly kind: "attend";
  readonly query: string;
  readonly keys: string;
  readonly values: string;
  readonly output: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** The step rotates and appends first (decode alone). */
  readonly prologue?: Prologue;
  /** Who merges the states of split attention: the step itself, or the product after it. */
  readonly mergedBy: "itself" | "consumer";
}

export interface AttentionMask {
  /** sm_scale */
  readonly scale: number;
  /** logits_soft_cap; 0 for none. */
  readonly softCap: number;
  /** window_left; -1 for none. */
  readonly windowLeft: number;
  readonly causal: boolean;
}

/** One channel at a time: SiLU of one value, the product or the sum of two, one value times a factor. */
export interface PointwiseStep extends Named {
  readonly kind: "pointwise";
  readonly operation: "silu" | "multiply" | "add" | "scale";
  readonly inputs: readonly string[];
  readonly output: string;
  /** Of `scale`. */
  readonly factor?: number;
}

/** A value that the spec itself computes, on the host: an op swapped for its reference, or one that no kernel means. */
export interface HostStep extends Named {
  readonly kind: "host";
  readonly inputs: readonly string[];
  readonly output: string;
}
