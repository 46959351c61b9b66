import { Worker } from "node:worker_threads";
import type { Shares } from "../check/coverage.js";
import type { InvestigationSource } from "../check/open-investigation.js";
import type { Effects } from "../explain/visibility.js";
import type { CheckOnWire, settleRoles } from "./wire.js";
import { stop, take as takenFrom, type Work } from "./work.js";

/** Names of units: of each role one, of which its recipe is settled first, and all in batches; and how much of each is compared. */
export interface CheckWork {
  readonly roles: Work<readonly string[]>;
  readonly batches: Work<readonly string[]>;
  readonly shares: Shares;
}

/** How this thread does its part of the work. */
export interface CheckHere {
  readonly settle: (names: readonly string[]) => Settled;
  readonly adopt: (settled: Settled) => void;
  readonly check: (names: readonly string[]) => readonly CheckOnWire[];
  /** Called with the units of every batch that is done, by whom ever. */
  readonly report: (names: readonly string[]) => void;
}

type Settled = ReturnType<typeof settleRoles>;

/** What rewrites would do to those of the checks that are witnesses. */
interface EffectsQuestion {
  readonly checks: readonly CheckOnWire[];
  /** Indices of witnesses. */
  readonly witnesses: Work<number>;
  readonly milliseconds: number;
}

/** What a thread is asked: to check units now that all recipes are settled, and when that is done what rewrites would do. */
export type Question =
  | { readonly about: "units"; readonly settled: Settled }
  | ({ readonly about: "effects" } & EffectsQuestion);

/** What a thread says: the recipes it settled, the checks of a batch, or what it found by the indices of witnesses. */
export type Answer =
  | { readonly about: "roles"; readonly settled: Settled }
  | { readonly about: "units"; readonly checks: readonly CheckOnWire[] }
  | { readonly about: "effects"; readonly effects: ReadonlyMap<number, Effects> };

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

  /** Checks the units of the work. */
  async check(here: CheckHere): Promise<Map<string, CheckOnWire>> {
    const { roles, batches } = this.#work;
    const settled: Settled = [];
    const found = new Map<string, CheckOnWire>();
    const rolesDone = new Remaining(roles.pieces.length);
    const unitsDone = new Remaining(batches.pieces.length);
    const take = (answer: Answer) => {
      if (answer.about === "roles") {
        settled.push(...answer.settled);
        rolesDone.less();
      } else if (answer.about === "units") {
        for (const check of answer.checks) found.set(check.name, check);
        here.report(answer.checks.map(({ name }) => name));
        unitsDone.less();
      }
    };
    const failed = new Promise<never>((_, reject) => {
      for (const worker of this.#pool) {
        worker.on("message", take);
        worker.on("error", reject);
        worker.on("exit", (code) => reject(new Error(`a checking thread ended with code ${code}`)));
      }
    });
    const work = async () => {
      for (const names of takenFrom(roles)) {
        take({ about: "roles", settled: here.settle(names) });
        await turn();
      }
      await rolesDone.none;
      here.adopt(settled);
      for (const worker of this.#pool) worker.postMessage({ about: "units", settled } satisfies Question);
      for (const names of takenFrom(batches)) {
        take({ about: "units", checks: here.check(names) });
        await turn();
      }
      await unitsDone.none;
    };
    try {
      await Promise.race([work(), failed]);
    } catch (error) {
      stop(roles);
      stop(batches);
      this.end();
      throw error;
    }
    this.#letGo();
    return found;
  }

  /** What rewrites would do to the witnesses that nobody else takes, found while other things are done. Ends the threads. */
  async effects(question: EffectsQuestion): Promise<ReadonlyMap<number, Effects>> {
    const [worker, ...others] = this.#pool;
    // One is enough, and what the others hold in memory is needed elsewhere.
    for (const other of others) void other.terminate();
    if (worker!.threadId < 0) return new Map();
    try {
      return await new Promise((resolve, reject) => {
        worker!.on("message", (answer: Answer) => answer.about === "effects" && resolve(answer.effects));
        worker!.on("error", reject);
        worker!.on("exit", (code) => reject(new Error(`a checking thread ended with code ${code}`)));
        worker!.postMessage({ about: "effects", ...question } satisfies Question);
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

/** So many pieces of work until there are none. */
class Remaining {
  readonly none: Promise<void>;
  #count: number;
  #done: () => void = () => {};

  constructor(count: number) {
    this.#count = count;
    this.none = new Promise((resolve) => {
      this.#done = resolve;
    });
    if (count === 0) this.#done();
  }

  less(): void {
    this.#count--;
    if (this.#count === 0) this.#done();
  }
}

/** Lets what others have sent come in. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
