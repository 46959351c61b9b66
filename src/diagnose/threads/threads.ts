import { Worker } from "node:worker_threads";
import type { Shares } from "../check/coverage.js";
import type { InvestigationSource } from "../check/open-investigation.js";
import type { NotVisible } from "../explain/visibility.js";
import type { CheckOnWire } from "./wire.js";

/** What a thread is asked: to check units, or what of a checked recording could not have shown. */
export type Question =
  | { readonly names: readonly string[]; readonly shares: Shares }
  | { readonly checks: readonly CheckOnWire[]; readonly milliseconds: number };

/** Its answer; undefined when it is ready for the first question. */
export type Answer = readonly CheckOnWire[] | { readonly notVisible: readonly NotVisible[] } | undefined;

/** Threads that have opened one recording each for themselves. */
export class Threads {
  readonly #pool: Worker[];

  constructor({ target, model, mask, names }: InvestigationSource, count: number) {
    const workerData = { target, model, mask, names };
    this.#pool = Array.from(
      { length: count },
      () => new Worker(new URL("./worker.js", import.meta.url), { workerData }),
    );
  }

  /** Checks batches of units: each thread takes the next batch when it is done with one. */
  check(
    batches: readonly (readonly string[])[],
    shares: Shares,
    report: (names: readonly string[]) => void,
  ): Promise<Map<string, CheckOnWire>> {
    return new Promise((resolve, reject) => {
      const found = new Map<string, CheckOnWire>();
      let next = 0;
      let open = batches.length;
      const fail = (error: Error) => {
        this.end();
        reject(error);
      };
      for (const worker of this.#pool) {
        worker.on("message", (checks: readonly CheckOnWire[] | undefined) => {
          if (checks) {
            for (const check of checks) found.set(check.name, check);
            report(checks.map(({ name }) => name));
            open--;
          }
          if (open === 0) {
            this.#letGo();
            resolve(found);
          } else if (next < batches.length) worker.postMessage({ names: batches[next++], shares } satisfies Question);
        });
        worker.on("error", fail);
        worker.on("exit", (code) => {
          if (open > 0) fail(new Error(`a checking thread ended with code ${code}`));
        });
      }
    });
  }

  /** What the recording could not have shown, found while other things are done. Ends the threads. */
  async notVisible(checks: readonly CheckOnWire[], milliseconds: number): Promise<readonly NotVisible[]> {
    const [worker, ...others] = this.#pool;
    // One is enough, and what the others hold in memory is needed elsewhere.
    for (const other of others) void other.terminate();
    try {
      return await new Promise((resolve, reject) => {
        worker!.on("message", ({ notVisible }: { notVisible: readonly NotVisible[] }) => resolve(notVisible));
        worker!.on("error", reject);
        worker!.on("exit", (code) => reject(new Error(`a checking thread ended with code ${code}`)));
        worker!.postMessage({ checks, milliseconds } satisfies Question);
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
    for (const worker of this.#pool) for (const event of ["message", "error", "exit"]) worker.removeAllListeners(event);
  }
}
