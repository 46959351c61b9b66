import { InputError } from "../tensor/errors.js";
import type { RankedRun } from "./capture.js";
import type { Manifest, StepEvent, ValueEvent } from "./format.js";

/** The step events of a capture directory, rank by rank where the run has ranks. */
export class StepLists {
  /** Steps that hold for every rank of the directory, or of a run without ranks. */
  readonly #common: StepEvent[] = [];
  readonly #byRank = new Map<number, StepEvent[]>();
  readonly #ranks = new Set<number>();

  constructor(readonly manifest: Manifest) {}

  /** @throws InputError when the step does not follow on the one before it. */
  add(event: StepEvent, where: string): void {
    const rank = this.#named(event, where);
    if (rank === undefined) return append(this.#common, event, where);
    const own = this.#byRank.get(rank) ?? [];
    append(own, event, where);
    this.#byRank.set(rank, own);
    this.#ranks.add(rank);
  }

  /**
   * The rank that recorded a value; undefined in a run without ranks.
   * @throws InputError when the run has ranks and the event names none.
   */
  rankOf(event: ValueEvent, where: string): number | undefined {
    const rank = this.#named(event, where);
    if (rank === undefined && this.manifest.version === 2)
      throw new InputError(`${where}: rank: expected the rank that recorded the value, in the event or the manifest`);
    if (rank !== undefined) this.#ranks.add(rank);
    return rank;
  }

  /** The steps of the first rank. */
  get first(): readonly StepEvent[] {
    if (this.#common.length > 0) return this.#common;
    return this.#byRank.get(Math.min(...this.#byRank.keys())) ?? [];
  }

  /** @throws InputError when some of the steps name their rank and others do not, or a rank has none. */
  ranked(path: string): RankedRun | undefined {
    if (this.manifest.version !== 2) return undefined;
    if (this.#common.length > 0 && this.#byRank.size > 0)
      throw new InputError(`${path}: rank: expected every "step" event to name its rank, or none of them`);
    const steps = new Map<number, readonly StepEvent[]>();
    for (const rank of [...this.#ranks].sort((a, b) => a - b)) {
      const own = this.#common.length > 0 ? this.#common : this.#byRank.get(rank);
      if (!own) throw new InputError(`${path}: expected a "step" event of rank ${rank}, which recorded values`);
      steps.set(rank, own);
    }
    return { world: this.manifest.world, steps };
  }

  #named(event: StepEvent | ValueEvent, where: string): number | undefined {
    const { manifest } = this;
    if (manifest.version !== 2) return undefined;
    const rank = (event.rank as number | undefined) ?? manifest.rank;
    if (rank !== undefined && rank >= manifest.world)
      throw new InputError(
        `${where}: rank: expected a rank of the manifest's world of ${manifest.world}, found ${rank}`,
      );
    return rank;
  }
}

function append(steps: StepEvent[], event: StepEvent, where: string): void {
  checkStep(event, where, steps);
  steps.push(event);
}

function checkStep(event: StepEvent, where: string, steps: readonly StepEvent[]): void {
  const previous = steps.at(-1);
  if (previous && event.step <= previous.step)
    throw new InputError(`${where}: step: expected a number above ${previous.step}, found ${event.step}`);
  const { qo_indptr: indptr, seq_ids: ids, token_ids: tokens } = event;
  if (ids.length === 0) throw new InputError(`${where}: seq_ids: expected at least one sequence`);
  if (new Set(ids).size !== ids.length) throw new InputError(`${where}: seq_ids: expected distinct ids`);
  if (indptr.length !== ids.length + 1)
    throw new InputError(`${where}: qo_indptr: expected ${ids.length + 1} numbers, found ${indptr.length}`);
  const ordered = indptr.every((n, i) => i === 0 || n >= indptr[i - 1]!);
  if (indptr[0] !== 0 || !ordered || indptr.at(-1) !== tokens.length) {
    throw new InputError(`${where}: qo_indptr: expected to rise from 0 to the ${tokens.length} tokens of token_ids`);
  }
}
