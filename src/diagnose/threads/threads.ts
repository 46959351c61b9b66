import { Worker } from "node:worker_threads";
import type { Shares } from "../check/coverage.js";
import type { InvestigationSource } from "../check/open-investigation.js";
import type { Effects } from "../explain/visibility.js";
import type { CheckOnWire } from "./wire.js";
import { stop, take, type Work } from "./work.js";

/** Names of units, a batch at a time, and how much of each is compared. */
export interface CheckWork {
  readonly batches: Work<readonly string[]>;
  readonly shares: Shares;
}

/** What a thread that has checked its units is asked: what rewrites would do to those of the checks that are witnesses. */
export interface Question {
  readonly checks: readonly CheckOnWire[];
  /** Indices of witnesses. */
  readonly witnesses: Work<number>;
  readonly milliseconds: number;
}

/** What a thread says: the checks of a batch, or what it found by the indices of witnesses. */
export type Answer = readonly CheckOnWire[] | ReadonlyMap<number, Effects>;

/** Threads that open one recording each for themselves and check its units together with this one. */
export class Threads {
  readonly #pool: Worker[];
  readonly #work: CheckWork;

  /** @param count threads besides this one. */
  constructor({ target, model, mask, names }: InvestigationSource, work: CheckWork, count: number) {
    const workerData = { target, model, mask, names, work };
    this.#work = work;
    this.#pool = Array.from(
      { length: count },
      () => new Worker(new URL("./worker.js", import.meta.url), { workerData }),
    );
  }

  /**
   * Checks the units of the work.
   * @param checkHere checks a batch in this thread.
   * @param report called with the units of every batch that is done.
   */
  async check(
    checkHere: (names: readonly string[]) => readonly CheckOnWire[],
    report: (names: readonly string[]) => void,
  ): Promise<Map<string, CheckOnWire>> {
    const found = new Map<string, CheckOnWire>();
    let open = this.#work.batches.pieces.length;
    const add = (checks: readonly CheckOnWire[]) => {
      for (const check of checks) found.set(check.name, check);
      report(checks.map(({ name }) => name));
      open--;
    };
    try {
      await new Promise<void>((resolve, reject) => {
        const done = () => open === 0 && resolve();
        for (const worker of this.#pool) {
          worker.on("message", (checks: readonly CheckOnWire[]) => {
            add(checks);
            done();
          });
          worker.on("error", reject);
          worker.on("exit", (code) => reject(new Error(`a checking thread ended with code ${code}`)));
        }
        const here = async () => {
          for (const names of take(this.#work.batches)) {
            add(checkHere(names));
            await turn();
          }
          done();
        };
        here().catch(reject);
      });
    } catch (error) {
      stop(this.#work.batches);
      this.end();
      throw error;
    }
    this.#letGo();
    return found;
  }

  /** What rewrites would do to the witnesses that nobody else takes, found while other things are done. Ends the threads. */
  async effects(question: Question): Promise<ReadonlyMap<number, Effects>> {
    const [worker, ...others] = this.#pool;
    // One is enough, and what the others hold in memory is needed elsewhere.
    for (const other of others) void other.terminate();
    if (worker!.threadId < 0) return new Map();
    try {
      return await new Promise((resolve, reject) => {
        worker!.on("message", resolve);
        worker!.on("error", reject);
        worker!.on("exit", (code) => reject(new Error(`a checking thread ended with code ${code}`)));
        worker!.postMessage(question);
      });
    } finally {
      this.end();
    }
  }

  end(): void {
    this.#letGo();
    for (const worker of this.#pool) void worker.terminate();
  }

  #letGo(): void {
    for (const worker of this.#pool) {
      for (const event of ["message", "error", "exit"]) worker.removeAllListeners(event);
      // Of a thread that nobody waits for any more, an error says nothing.
      worker.on("error", () => {});
    }
  }
}

/** Lets what others have sent come in. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
