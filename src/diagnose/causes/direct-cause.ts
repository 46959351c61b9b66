import type { CauseId } from "./catalogue.js";
import type { CauseKind } from "./cause-entry.js";
import type { ParameterValue } from "./hypothesis.js";
import type { Transform } from "./transforms.js";

/** A cause that needs no rewrite of the spec: what the runtime recorded contradicts what it must be. */
export interface DirectCause {
  readonly cause: CauseId;
  readonly kind: CauseKind;
  readonly transform: Transform;
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
  /** Failing units that it accounts for: they come out right where it is not believed. */
  readonly readers?: readonly string[];
}
