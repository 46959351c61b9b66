import { type Phase, phaseOf } from "./phase.js";

/** One forward pass: which tokens of which sequences it computed. Shapes: token_ids [rows], qo_indptr [sequences + 1]. */
export interface Step {
  readonly step: number;
  readonly seqIds: readonly number[];
  readonly tokenIds: ArrayLike<number>;
  readonly qoIndptr: ArrayLike<number>;
  /** Tokens a new sequence already had that no recorded step computed (a prefix-cache hit, a recording that starts late). */
  readonly unrecorded?: readonly number[];
  /** Column of each row in a padded batch; only a padded step has them. */
  readonly columns?: ArrayLike<number> | undefined;
  /** Columns of keys that attention ran over, masked ones among them; absent where it was given no mask. */
  readonly keyColumns?: number | undefined;
}

/** What RoPE counts: a token's place in its sequence, or its column in the padded row. RoPE is relative: both are right. */
export type RotaryConvention = "counts" | "columns";

/** A step as it lies in the table: its rows are contiguous; `lengths` counts keys per sequence after the step. */
export interface PlacedStep {
  readonly step: number;
  readonly firstRow: number;
  readonly rowCount: number;
  readonly seqIds: readonly number[];
  readonly qoIndptr: readonly number[];
  readonly lengths: readonly number[];
  /** Row that computed each position of each sequence. */
  readonly histories: readonly (readonly number[])[];
  readonly keyColumns: number | undefined;
  /** Phase of each sequence's rows. */
  readonly phases: readonly Phase[];
}

/** Token of a row that stands for an unrecorded one. */
export const unknownToken = -1;

/**
 * Every token row of every step, in order: the row axis of all values of the spec. Positions are derived from token
 * counts alone, never from what the runtime said. Tokens of unrecorded steps have rows too, of token -1 and step -1, so
 * that a cache that was recorded can be read at their positions.
 */
export class RowTable {
  readonly steps: PlacedStep[] = [];
  readonly token: number[] = [];
  readonly position: number[] = [];
  readonly seqId: number[] = [];
  /** Index into `steps` of each row. */
  readonly stepOf: number[] = [];
  /** Index of the row's sequence within its step. */
  readonly sequenceOf: number[] = [];
  /** What RoPE counts in this run; only rows padded on the left tell the two apart. */
  rotary: RotaryConvention = "counts";
  /** Conventions that may hold as far as the recording says; whoever settles it sets `rotary`. */
  rotaryChoices: readonly RotaryConvention[] = ["counts"];
  readonly #histories = new Map<number, number[]>();
  readonly #columns = new Map<number, number>();

  get count(): number {
    return this.token.length;
  }

  /** Indices into `rows` of those that share neither token nor position with one before: equal numbers err equally. */
  unlike(rows: Int32Array): Set<number> {
    const tokens = new Set([unknownToken]);
    const positions = new Set<number>();
    const out = new Set<number>();
    rows.forEach((row, r) => {
      const [token, position] = [this.token[row]!, this.position[row]!];
      if (tokens.has(token) || positions.has(position)) return;
      tokens.add(token);
      positions.add(position);
      out.add(r);
    });
    return out;
  }

  /** Forgets a sequence's keys: its next rows start at position 0 again (preemption by recompute). */
  restart(seqId: number): void {
    this.#histories.delete(seqId);
  }

  /** Tokens the sequence has so far; 0 for an unknown one. */
  lengthOf(seqId: number): number {
    return this.#histories.get(seqId)?.length ?? 0;
  }

  /** Adds a step's rows and returns where they lie. */
  append(step: Step): PlacedStep {
    const histories = step.seqIds.map((seqId, b) => this.#history(seqId, step.unrecorded?.[b] ?? 0));
    const firstRow = this.count;
    for (let b = 0; b < step.seqIds.length; b++) {
      for (let i = step.qoIndptr[b]!; i < step.qoIndptr[b + 1]!; i++) {
        if (step.columns) this.#placeInColumn(step.columns[i]!, histories[b]!.length);
        this.#push(step.seqIds[b]!, step.tokenIds[i]!, this.steps.length, b, histories[b]!);
      }
    }
    const queries = histories.map((_, b) => step.qoIndptr[b + 1]! - step.qoIndptr[b]!);
    const mostQueries = queries.reduce((most, count) => Math.max(most, count), 0);
    const masked = step.keyColumns !== undefined;
    const placed: PlacedStep = {
      step: step.step,
      firstRow,
      rowCount: this.count - firstRow,
      seqIds: [...step.seqIds],
      qoIndptr: Array.from(step.qoIndptr),
      lengths: histories.map((history) => history.length),
      histories,
      keyColumns: step.keyColumns,
      phases: histories.map(({ length }, b) => phaseOf({ queries: queries[b]!, mostQueries, keys: length, masked })),
    };
    this.steps.push(placed);
    return placed;
  }

  /** The position RoPE rotates a row by; causality and page tables go by `position`. */
  rotaryPosition(row: number): number {
    return (this.rotary === "columns" ? this.#columns.get(row) : undefined) ?? this.position[row]!;
  }

  /** Place of a row in its padded row, tokens of earlier steps and their padding included; undefined where nothing is padded. */
  columnOf(row: number): number | undefined {
    return this.#columns.get(row);
  }

  /** Whether any row has a column of its own. */
  get isPadded(): boolean {
    return this.#columns.size > 0;
  }

  /** Column of the key at `position` of the row's own sequence. */
  columnOfKey(row: number, position: number): number {
    return this.#columns.get(this.keyRow(row, position)) ?? position;
  }

  /** What the row's step asks of kernels; rows of no recorded step count as a prefill's. */
  phaseOf(row: number): Phase {
    return this.steps[this.stepOf[row]!]?.phases[this.sequenceOf[row]!] ?? "prefill";
  }

  /** Number of keys the row's sequence holds after the row's step. */
  keyCount(row: number): number {
    return this.steps[this.stepOf[row]!]!.lengths[this.sequenceOf[row]!]!;
  }

  /** The row that computed the key at `position` of the row's own sequence. */
  keyRow(row: number, position: number): number {
    return this.steps[this.stepOf[row]!]!.histories[this.sequenceOf[row]!]![position]!;
  }

  /** Whether the row is the last of its sequence in its step: the one whose logits are sampled. */
  isLast(row: number): boolean {
    const step = this.steps[this.stepOf[row]!]!;
    return row + 1 === step.firstRow + step.qoIndptr[this.sequenceOf[row]! + 1]!;
  }

  /** Rows of one step. */
  rowsOf(stepIndex: number): Int32Array {
    const { firstRow, rowCount } = this.steps[stepIndex]!;
    return Int32Array.from({ length: rowCount }, (_, i) => firstRow + i);
  }

  #placeInColumn(column: number, position: number): void {
    this.#columns.set(this.count, column);
    if (column !== position) this.rotaryChoices = ["counts", "columns"];
  }

  #history(seqId: number, unrecorded: number): number[] {
    let history = this.#histories.get(seqId);
    if (!history) {
      history = [];
      this.#histories.set(seqId, history);
      for (let i = 0; i < unrecorded; i++) this.#push(seqId, unknownToken, -1, -1, history);
    }
    return history;
  }

  #push(seqId: number, token: number, stepIndex: number, sequence: number, history: number[]): void {
    this.position.push(history.length);
    history.push(this.count);
    this.token.push(token);
    this.seqId.push(seqId);
    this.stepOf.push(stepIndex);
    this.sequenceOf.push(sequence);
  }
}
