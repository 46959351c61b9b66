import type { Phase } from "../../spec/phase.js";
import type { Extent } from "../check/extent.js";
import type { Span } from "../check/span.js";
import type { Cause } from "../explain/cause.js";
import type { NearestCause } from "../explain/nearest-causes.js";
import type { NotVisible } from "../explain/visibility.js";
import type { Proof } from "../prove/proof.js";

/** What `diagnose` returns and `--json` prints: stable, documented in docs/verdict.md. Fields may be added. */
export interface Verdict {
  readonly verdict: "clean" | "fault" | "ambiguous" | "inconclusive";
  /** One sentence. */
  readonly summary: string;
  /** In order of origin. */
  readonly causes: readonly Cause[];
  /** Units and seams that the spec cannot explain by rounding, in execution order. */
  readonly findings: readonly Finding[];
  readonly proof: Proof;
  readonly audits: Record<AuditName, Audit>;
  /** From cause to symptom, in words. */
  readonly chain: readonly string[];
  readonly ruledOut: readonly { suspect: string; evidence: string }[];
  readonly notVisible: readonly NotVisible[];
  readonly unchecked: readonly { value: string; why: string }[];
  /** Every unit, in execution order. */
  readonly judged: readonly JudgedUnit[];
  /** How closely each kind of unit agreed. */
  readonly units: readonly UnitSummary[];
  /** How the run rounds, per kind of unit: a fingerprint of the implementations that really ran. */
  readonly recipes: readonly RecipeSummary[];
  /** How much of the recording was looked at, and how. */
  readonly coverage: CoverageSummary;
  readonly recording: RecordingSummary;
}

export interface Finding {
  readonly unit: string;
  readonly step: number;
  readonly rmsZ: number | null;
  readonly maxZ: number | null;
  readonly extent: Extent;
  /** Index into `causes`, or null when nothing in the catalogue explains it. */
  readonly cause: number | null;
  /** First and last of the unrecorded layers that it spans: the fault is somewhere in them. */
  readonly span?: Span;
  /** Where nothing explains it: causes that come nearest, with the share of bits or of errors, best first. */
  readonly nearest?: readonly NearestCause[];
  /** Where nothing explains it: values to record to see further. */
  readonly record?: readonly string[];
}

export type AuditName = "boundary" | "cache" | "rotary" | "batch";

export interface Audit {
  readonly pass: boolean;
  readonly evidence: string;
}

export interface JudgedUnit {
  readonly unit: string;
  /** Null outside of layers. */
  readonly layer: number | null;
  /** Unchecked: beyond the range of its types, or it rests on values nobody recorded. */
  readonly outcome: "follows" | "fails" | "unchecked";
  readonly rmsZ: number | null;
  readonly maxZ: number | null;
}

export interface UnitSummary {
  /** Value name with its layer number replaced by `*`. */
  readonly unit: string;
  readonly count: number;
  readonly rmsZ: number;
  readonly worstRmsZ: number;
  readonly maxZ: number;
  readonly failed: number;
  /** Share of the compared elements that the best recipe gives bit for bit; null where bits decide nothing. */
  readonly equal: number | null;
}

export interface RecipeSummary {
  /** Value name with its layer number replaced by `*`. */
  readonly unit: string;
  /** Id and meaning of the op's recipe; null where no recipe gives the recorded bits. */
  readonly recipe: string | null;
  readonly title: string;
  /** Implementations known to round so. */
  readonly known: readonly string[];
  /** Units given back, of those of this kind. */
  readonly matched: number;
  readonly of: number;
  /** Share of the compared elements that are recorded bit for bit. */
  readonly equal: number;
  /** Values that reach their consumer unrounded, by role. */
  readonly kept: readonly string[];
  /** Layers that round otherwise than their siblings. */
  readonly departing: readonly number[];
  /** The same for the rows of each phase that the recording has: prefill and decode may be other kernels'. */
  readonly phases: readonly PhaseSummary[];
}

export interface PhaseSummary extends Pick<RecipeSummary, "title" | "known" | "equal"> {
  readonly phase: Phase;
  readonly recipe: string | null;
  /** Elements compared. */
  readonly compared: number;
}

/** Elements of the units that were judged; the rest is stood for by a sample. */
export interface CoverageSummary {
  /** Compared one by one. */
  readonly compared: number;
  /** Besides those: part of a sum over a block of a product's columns, in which a wrong element or row stands out. */
  readonly summed: number;
  readonly of: number;
}

export interface RecordingSummary {
  readonly path: string;
  readonly model: string;
  readonly steps: number;
  readonly rows: number;
  readonly sequences: number;
  readonly values: number;
  readonly dtype: string;
  readonly compute: string;
}
