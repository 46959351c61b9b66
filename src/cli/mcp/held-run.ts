import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { JudgedRun } from "../../diagnose/reference/judged-run.js";
import { withJudged } from "../../diagnose/street.js";
import { namesFor } from "../names-of.js";
import { runPath, type Told } from "./tool.js";

/** What a run is judged from. */
export interface RunSource {
  readonly target: readonly string[];
  readonly model: string;
  readonly names?: string | undefined;
}

/** The run that was judged last, with its files open: to be asked about again and again. */
export class HeldRun {
  #stamp = "";
  #run: JudgedRun | undefined;
  #release: (() => void) | undefined;

  /** @throws InputError when the recording or the model cannot be read. */
  async of(source: RunSource, told: Told): Promise<JudgedRun> {
    const stamp = stampOf(source);
    if (this.#run && stamp === this.#stamp) return this.#run;
    this.#release?.();
    this.#run = undefined;
    const { model } = source;
    const target = runPath(source.target);
    const names = namesFor(target, model, source.names);
    this.#run = await new Promise<JudgedRun>((resolve, reject) => {
      // The files stay open until the promise that is returned here is kept.
      const hold = (run: JudgedRun) =>
        new Promise<void>((release) => {
          this.#release = release;
          resolve(run);
        });
      withJudged({ target, model, names, progress: told }, hold).catch(reject);
    });
    this.#stamp = stamp;
    return this.#run;
  }
}

/** Tells whether anything was written since: paths, sizes and times of all files. */
function stampOf({ target, model, names }: RunSource): string {
  const files = (path: string): string[] => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat) return [path];
    if (!stat.isDirectory()) return [`${path} ${stat.size} ${stat.mtimeMs}`];
    return readdirSync(path).flatMap((name) => files(join(path, name)));
  };
  return JSON.stringify([target, model, names, [...target, model, ...(names ? [names] : [])].flatMap(files)]);
}
