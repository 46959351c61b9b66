import type { CauseKind, ParameterValue } from "./hypothesis.js";

/** A cause that needs no rewrite of the spec: what the runtime recorded contradicts what it must be. */
export interface DirectCause {
  readonly cause: string;
  readonly kind: CauseKind;
  readonly transform: string;
  readonly unit: string;
  readonly step: number;
  readonly layer?: number | undefined;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly statement: string;
  /** Same meaning as in a hypothesis: causes of one group are one cause. */
  readonly group: string;
  /** Elements compared. */
  readonly samples: number;
  readonly rows?: string;
}
