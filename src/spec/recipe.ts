import type { DType } from "../tensor/dtype.js";
import type { Phase } from "./phase.js";

/** What an op's evaluation looks up in a recipe. */
export type RecipeSettings = Readonly<Record<string, string | number | boolean>>;

/**
 * One way in which correct implementations of an op round between its own steps: where they store, in which type, in which
 * order. Data beside the op's meaning; the bits of a run tell which one it was.
 */
export interface Recipe {
  readonly id: string;
  /** What is rounded where, in words. */
  readonly title: string;
  /** Implementations known to round so. */
  readonly known: readonly string[];
  /** Recipe of which it is a finer form: tried where that one comes nearest. */
  readonly refines?: string | undefined;
  readonly settings: RecipeSettings;
}

/**
 * How all ops of a unit round. A unit is one recorded value and the unrecorded ones it rests on; several roundings may
 * meet in it. Keyed by role, so that what was found in one layer holds for its siblings.
 */
export class UnitRecipe {
  constructor(
    /** Type in which values are stored between ops. */
    readonly store: DType,
    /** Recipe of an op by the role of its value; the op's first recipe where absent. */
    readonly ops: ReadonlyMap<string, Recipe> = new Map(),
    /** Roles of unrecorded values that reach their consumer in float32. */
    readonly kept: ReadonlySet<string> = new Set(),
    /** Roles of recorded values that the consumer had in float32: it did not read what was stored. */
    readonly recomputed: ReadonlySet<string> = new Set(),
    /** How rows of phases round that have a kernel of their own; all others round as the above says. */
    readonly phases: ReadonlyMap<Phase, UnitRecipe> = new Map(),
  ) {}

  /** How rows of a phase round. */
  at(phase: Phase): UnitRecipe {
    return this.phases.get(phase) ?? this;
  }

  /** Each way in which some rows round. */
  get ways(): readonly UnitRecipe[] {
    return [this, ...this.phases.values()];
  }

  /** The same, rows of `phases` rounding as those say. */
  withPhases(phases: ReadonlyMap<Phase, UnitRecipe>): UnitRecipe {
    return new UnitRecipe(this.store, this.ops, this.kept, this.recomputed, phases);
  }

  /** The same with one choice made in all phases. */
  with(change: {
    op?: readonly [role: string, recipe: Recipe];
    kept?: readonly [role: string, kept: boolean];
    recomputed?: readonly [role: string, recomputed: boolean];
  }): UnitRecipe {
    const ops = change.op ? new Map(this.ops).set(...change.op) : this.ops;
    const kept = change.kept ? toggled(this.kept, ...change.kept) : this.kept;
    const recomputed = change.recomputed ? toggled(this.recomputed, ...change.recomputed) : this.recomputed;
    const phases = new Map([...this.phases].map(([phase, recipe]) => [phase, recipe.with(change)] as const));
    return new UnitRecipe(this.store, ops, kept, recomputed, phases);
  }
}

function toggled(set: ReadonlySet<string>, member: string, included: boolean): ReadonlySet<string> {
  const out = new Set(set);
  if (included) out.add(member);
  else out.delete(member);
  return out;
}
