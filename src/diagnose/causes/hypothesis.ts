import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import type { CauseId } from "./catalogue.js";
import type { CauseKind } from "./cause-entry.js";
import type { Transform } from "./transforms.js";

export type ParameterValue = number | string | readonly number[] | Readonly<Record<string, number>>;

/** One way a unit may have gone wrong: a rewrite of the spec that, if right, explains what was recorded. */
export interface Hypothesis {
  readonly cause: CauseId;
  readonly kind: CauseKind;
  readonly transform: Transform;
  /** The node that is rewritten. */
  readonly site: string;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  /** Nodes that replace those of the spec. */
  readonly replacements: readonly GraphNode[];
  /** Free numbers taken from the recording: 0 for a named rewrite. Fewer explain better. */
  readonly fitted: number;
  /** Elements (row and column index within the finding's sample) that no number was taken from; all when nothing was fitted. */
  readonly heldOut?: ((row: number, column: number) => boolean) | undefined;
  /** One sentence an engineer can act on; `where` names the layers or units. */
  readonly statement: string;
  /** Hypotheses with the same group are one cause, seen in several places. */
  readonly group: string;
  /** The same rewrite of another layer's op, where its fitted number carries over. */
  readonly transfer?: ((op: Op) => Op) | undefined;
  /** Recipes under which units gave their bits with it, by name. */
  readonly recipes?: ReadonlyMap<string, UnitRecipe> | undefined;
  /** The same rewrite at several sites at once: each of them. */
  readonly places?: readonly Hypothesis[];
  /** A second cause that explains only together with this one; its replacements are contained in `replacements`. */
  readonly also?: Hypothesis;
  /** This rewrite where the spec is without the second cause. */
  readonly alone?: readonly GraphNode[] | undefined;
}

/** Ops that a rewrite of one op may write anew. */
const mostRewritten = 8;

/** Whether a hypothesis writes a whole layer anew. */
export function rewritesLayer({ replacements }: Hypothesis): boolean {
  return replacements.length > mostRewritten;
}

/** A number as people write it. */
export function short(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return Number(value.toPrecision(4)).toString();
}
