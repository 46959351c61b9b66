import type { NextStep } from "../next-steps.js";

/** Everything a page shows, as plain JSON: words are made here, once; the page only sets them. */
export interface PageData {
  readonly version: string;
  readonly verdict: { readonly state: "clean" | "fault" | "ambiguous" | "inconclusive"; readonly summary: string };
  readonly recording: { readonly path: string; readonly model: string; readonly words: string };
  readonly causes: readonly CauseCard[];
  /** What nothing in the catalogue explains. */
  readonly unexplained: readonly {
    readonly unit: string;
    readonly words: string;
    readonly nearest: readonly string[];
  }[];
  readonly proof: ProofCard;
  readonly reference: ReferenceCard | null;
  readonly audits: readonly { readonly name: string; readonly pass: boolean; readonly evidence: string }[];
  readonly ruledOut: readonly { readonly suspect: string; readonly evidence: string }[];
  readonly chain: readonly string[];
  readonly coverage: string;
  readonly recipes: readonly RecipeRow[];
  readonly unchecked: readonly { readonly value: string; readonly why: string }[];
  readonly notVisible: readonly { readonly cause: string; readonly why: string }[];
  readonly commands: readonly NextStep[];
  readonly run: RunView;
  /** Served by a process that can be asked for any element. */
  readonly live: boolean;
}

export interface CauseCard {
  readonly id: string;
  /** "seam" and "T6", with what these mean. */
  readonly kind: string;
  readonly transform: string;
  readonly latent: boolean;
  readonly legend: string;
  readonly statement: string;
  readonly units: readonly string[];
  readonly steps: readonly number[];
  readonly extent: string;
  readonly found: readonly (readonly [string, string])[];
  readonly evidence: string;
  /** Shares of the compared elements whose bits come out with and without the cause; null where bits decide nothing. */
  readonly bits: { readonly equal: number; readonly compared: number; readonly without: number | null } | null;
  /** Units that match without this cause. */
  readonly without: number | null;
  readonly change: string;
  readonly hidden: readonly string[];
  readonly alternatives: string | null;
}

export interface ProofCard {
  readonly matched: number;
  readonly of: number;
  /** Units that match with no cause in the spec. */
  readonly asIs: number;
  readonly fromTokens: string | null;
  readonly repair: string | null;
  readonly notes: readonly string[];
}

export interface ReferenceCard {
  readonly summary: string;
  readonly words: string;
  readonly values: readonly { readonly unit: string; readonly state: string; readonly equal: number }[];
}

export interface RecipeRow {
  readonly unit: string;
  readonly words: string;
  readonly title: string;
  readonly known: string;
  readonly equal: number;
}

/** What is drawn of a run. */
export interface RunView {
  readonly layers: number;
  readonly steps: readonly StepView[];
  readonly values: readonly ValueView[];
  /** Indices into `values`: the first that is wrong in order of execution, and the one furthest beyond rounding. */
  readonly first: number | null;
  readonly worst: number | null;
  readonly rows: readonly RowView[];
  readonly elements: readonly UnitElements[];
  readonly caches: readonly CacheView[];
  /** Numbers in which stores of the run end, and beyond which squares overflow float32. */
  readonly limits: readonly { readonly at: number; readonly what: string }[];
}

export interface StepView {
  readonly step: number;
  readonly rows: number;
  readonly sequences: number;
}

/** Row of the token axis: the token, what it spells, and where it stands. */
export interface RowView {
  readonly step: number;
  readonly sequence: number;
  readonly position: number;
  readonly token: number;
  readonly text: string;
}

/**
 * recipe: the bits of the run's usual recipe; departs: those of another; rounding: no recipe, within rounding; wrong;
 * seam: right as computed, wrong as handed on; unchecked: nothing could be said; read: only its reader was recorded.
 */
export type ValueState = "recipe" | "departs" | "rounding" | "wrong" | "seam" | "unchecked" | "read";

/** One recorded value over the whole run. */
export interface ValueView {
  readonly name: string;
  /** The name in every layer, `*` for its number. */
  readonly role: string;
  readonly layer: number | null;
  readonly op: string;
  readonly state: ValueState;
  /** Indices of causes that it shows. */
  readonly causes: readonly number[];
  readonly recipe: string | null;
  readonly rmsZ: number | null;
  readonly maxZ: number | null;
  /** Elements compared one by one, those equal bit for bit, and all that were recorded. */
  readonly compared: number;
  readonly equal: number | null;
  readonly of: number;
  /** Largest finite |x| of its sample; what else stands there. */
  readonly largest: number;
  readonly holds: "zeros" | "nan" | "infinite" | null;
  /** Whether it is the residual stream as a layer leaves it. */
  readonly stream: boolean;
  /** Indices of the steps in which it was recorded, and where it is wrong its largest |z| in each. */
  readonly steps: readonly number[];
  readonly stepZ: readonly (number | null)[] | null;
  readonly extent: string;
  /** What the model means by it, from its nearest recorded inputs on, op by op. */
  readonly meaning: readonly string[];
}

/** Elements of one unit. Of each cell of the map the element with the largest difference is kept, whole as it is. */
export interface UnitElements {
  readonly unit: string;
  readonly dtype: string;
  /** Indices into the row table, and columns, of the elements that were evaluated. */
  readonly rows: readonly number[];
  readonly columns: readonly number[] | { readonly first: number; readonly count: number };
  /** All rows and columns that were recorded. */
  readonly of: { readonly rows: number; readonly columns: number };
  /** Cells of the map. */
  readonly down: number;
  readonly across: number;
  /** Base64 of little-endian numbers, a cell each: element (row × columns + column) shown; absent where cells are elements. */
  readonly at: string | null;
  readonly expected: string;
  readonly observed: string;
  /** (observed − expected) in units of the stored type's last place. */
  readonly ulps: string;
  /** The same against the spec with the causes in it; null where no cause touches the unit. */
  readonly left: string | null;
  /** What the reference run holds in the same places. */
  readonly reference: string | null;
  /** Elements per distance in ulps: see `ulpBin`. */
  readonly histogram: readonly number[];
  readonly leftHistogram: readonly number[] | null;
  readonly rectangles: readonly Rectangle[];
  readonly headWidth: number | null;
  readonly pageSize: number | null;
  readonly tile: number;
  readonly basis: string;
}

/** First and last row and column, as indices into the evaluated ones. */
export interface Rectangle {
  readonly rows: readonly [number, number];
  readonly columns: readonly [number, number];
}

/** The pages of one step: which slots each sequence's keys are read from and were written to. */
export interface CacheView {
  readonly step: number;
  readonly pageSize: number;
  readonly sequences: readonly {
    readonly sequence: number;
    readonly length: number;
    readonly pages: readonly number[];
    /** Slot of each key as it is read; -1 where nobody knows. */
    readonly read: readonly number[];
    /** Slot to which this step wrote it; -1 for keys of earlier steps. */
    readonly written: readonly number[];
  }[];
  /** Caches that a reader's record shows, and positions [sequence index, position] that are not what was appended. */
  readonly caches: readonly {
    readonly name: string;
    readonly keys: number;
    readonly wrong: readonly (readonly [number, number])[];
  }[];
}
