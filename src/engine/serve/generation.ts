import { type Batch, pageCountOf } from "../run/batch.js";
import type { CaptureSink } from "../run/captured-value.js";
import type { ForwardResult, Path } from "../run/path.js";
import type { Sampling } from "../run/sampling.js";
import { type Finish, type Request, type Scheduled, Scheduler, type Sequence } from "./scheduler.js";

/** Writes down what every step computes. */
export interface Recorder extends CaptureSink {
  begin(batch: Batch): void;
  /** @param greedy whether the logits alone determine the tokens. */
  end(result: ForwardResult, greedy: boolean): void;
}

export interface GenerationOptions {
  /** Rows a prompt may take of one batch. @default the path's maxRows */
  readonly chunk?: number | undefined;
  /** 32-bit pattern that freed pages are filled with; none when absent. */
  readonly poison?: number | undefined;
  /** Most tokens generated per sequence between two decisions of the scheduler. @default 64 */
  readonly stepsAhead?: number | undefined;
  readonly recorder?: Recorder | undefined;
  /** Steps that are recorded, from the first. @default all */
  readonly recordedSteps?: number | undefined;
  /** Called with every token as it is known. */
  readonly onToken?: ((sequence: Sequence, token: number) => void) | undefined;
}

/** Sequences generated together on one path; they may be added and removed at any time between and during steps. */
export class Generation {
  readonly scheduler: Scheduler;
  #recorded = 0;

  constructor(
    readonly path: Path,
    readonly options: GenerationOptions = {},
  ) {
    const { pageCount, pageSize, maxRows, maxSequences } = path;
    const { chunk, poison } = options;
    const fill = poison === undefined ? undefined : (pages: readonly number[]) => path.poisonPages(pages, poison);
    this.scheduler = new Scheduler({ pageCount, pageSize, maxRows, maxSequences, chunk, poison: fill });
  }

  /** @throws Error when the request cannot fit the path's cache. */
  add(request: Request): Sequence {
    return this.scheduler.add(request);
  }

  remove(sequence: Sequence): void {
    this.scheduler.remove(sequence);
  }

  /** Runs one batch, or several decode steps in a row. @returns false when no sequence is left. */
  async step(): Promise<boolean> {
    const scheduled = this.scheduler.schedule();
    if (!scheduled) return false;
    const most = this.#recorder ? 1 : (this.options.stepsAhead ?? 64);
    const steps = this.scheduler.reserveAhead(scheduled, most);
    if (steps > 1) await this.#decode(scheduled, steps);
    else await this.#forward(scheduled);
    return true;
  }

  /** Runs until every sequence has ended. */
  async run(): Promise<void> {
    while (await this.step());
  }

  get #recorder(): Recorder | undefined {
    const { recorder, recordedSteps = Infinity } = this.options;
    return this.#recorded < recordedSteps ? recorder : undefined;
  }

  async #forward(scheduled: Scheduled): Promise<void> {
    const recorder = this.#recorder;
    this.#recorded++;
    const sampling = samplingOf(scheduled);
    recorder?.begin(scheduled.batch);
    const result = await this.path.forward(scheduled.batch, { sampling, capture: recorder });
    recorder?.end(result, sampling === undefined);
    this.#complete(scheduled, result.tokenIds, result.finite);
  }

  async #decode(scheduled: Scheduled, steps: number): Promise<void> {
    const { batch, entries } = scheduled;
    const reserve = entries.map(({ sequence }, b) => sequence.cache.pages.slice(pageCountOf(batch, b)));
    await this.path.decode(batch, {
      steps,
      reserve,
      sampling: samplingOf(scheduled),
      onTokens: (_, tokenIds, finite) => {
        this.#complete(scheduled, tokenIds, finite);
        // Someone new, or nobody left: time for another batch.
        return this.scheduler.waiting.length === 0 && entries.some(({ sequence }) => !sequence.finish);
      },
    });
  }

  #complete(scheduled: Scheduled, tokenIds: Int32Array, finite: readonly boolean[]): void {
    for (const sequence of this.scheduler.complete(scheduled, tokenIds, finite)) {
      this.options.onToken?.(sequence, sequence.tokens.at(-1)!);
    }
  }
}

/** One per sequence; undefined when all are greedy. */
function samplingOf({ entries }: Scheduled): Sampling[] | undefined {
  const sampling = entries.map(({ sequence }) => sequence.sampling);
  return sampling.some(({ temperature }) => temperature > 0) ? sampling : undefined;
}

export interface Generated {
  readonly tokenIds: readonly number[];
  readonly finish: Finish;
}

/** Generates for all requests together and returns their tokens in the order of the requests. */
export async function generate(
  path: Path,
  requests: readonly Request[],
  options: GenerationOptions = {},
): Promise<Generated[]> {
  const generation = new Generation(path, options);
  const sequences = requests.map((request) => generation.add(request));
  await generation.run();
  return sequences.map(({ generated, finish }) => ({ tokenIds: generated, finish: finish! }));
}
