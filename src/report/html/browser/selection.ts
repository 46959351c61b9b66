/** What is looked at: a value, and a step of the run or all of them. */
export interface Selected {
  readonly unit: string | null;
  /** Index of a step; null: all steps. */
  readonly step: number | null;
}

/** The one thing that parts of the page share. */
export class Selection {
  #selected: Selected;
  readonly #listeners: ((now: Selected, before: Selected) => void)[] = [];

  constructor(selected: Selected) {
    this.#selected = selected;
  }

  get now(): Selected {
    return this.#selected;
  }

  change(change: Partial<Selected>): void {
    const before = this.#selected;
    this.#selected = { ...before, ...change };
    for (const listener of this.#listeners) listener(this.#selected, before);
  }

  listen(listener: (now: Selected, before: Selected) => void): void {
    this.#listeners.push(listener);
  }
}
