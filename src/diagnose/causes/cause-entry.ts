import type { Transform } from "./transforms.js";

export type CauseKind = "kernel" | "seam" | "metadata" | "parameter" | "state" | "environment" | "observer";

/** A cause as data: what it is, and what people know of it. Its id is its key. */
export interface CauseEntry<Id extends string = string> {
  /** What is usually wrong; a rewrite of it may say otherwise of itself. */
  readonly kind: CauseKind;
  readonly transform: Transform;
  /** One sentence: what it is. */
  readonly legend: string;
  /** Inputs on which a run with it equals one without. */
  readonly hiddenBy: string;
  /** Causes that look alike at first sight. */
  readonly confusedWith?: readonly Id[];
  /** A public thread about a bug of this kind, as `owner/repository#number`, and what was wrong there. */
  readonly report?: readonly [thread: string, fact: string];
  /** Whether it is a matter of how queries and keys are rotated, whatever unit shows it. */
  readonly isRotary?: true;
  /** Whether it changes no result as long as all queries and keys share it. */
  readonly isLatentWhenShared?: true;
}

/** Causes by their ids. */
export type CauseEntries = Readonly<Record<string, CauseEntry>>;
