/** How long a search may go on. No recording takes more than a minute to be answered, if only with what came nearest. */
export class Deadline {
  readonly #end: number;

  constructor(milliseconds: number, outer?: Deadline) {
    this.#end = Math.min(performance.now() + milliseconds, outer ? outer.#end : Infinity);
  }

  get passed(): boolean {
    return performance.now() > this.#end;
  }
}
