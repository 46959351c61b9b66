/**
 * How long a search may go on. No recording takes more than a minute to be answered, if only with what came nearest. It
 * has passed when that much time has, and the process has computed for as long: who shares a busy machine waits longer
 * for the same answer.
 */
export class Deadline {
  readonly #end: number;
  readonly #computed: number;

  constructor(milliseconds: number, outer?: Deadline) {
    this.#end = Math.min(performance.now() + milliseconds, outer ? outer.#end : Infinity);
    this.#computed = Math.min(computing() + milliseconds, outer ? outer.#computed : Infinity);
  }

  get passed(): boolean {
    return performance.now() > this.#end && computing() > this.#computed;
  }
}

/** Milliseconds that the threads of this process have computed so far. */
function computing(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
