import type { Backend, Commands } from "./backend.js";

/** The commands of one batch, submitted in parts where the host computes in between. */
export class Submission {
  #commands: Commands;

  constructor(readonly backend: Backend) {
    this.#commands = backend.commands();
  }

  get commands(): Commands {
    return this.#commands;
  }

  /** Submits what there is so far, and does `work` before anything that follows. */
  async pause(work: () => Promise<void>): Promise<void> {
    this.#commands.submit();
    await work();
    this.#commands = this.backend.commands();
  }

  submit(): void {
    this.#commands.submit();
  }
}
