import type { Patch } from "../../engine/program/patch.js";
import type { Recorder } from "../../engine/serve/generation.js";
import { type Effect, effectOf } from "./effect.js";
import { type LiveRun, type LiveSource, runLive } from "./live-run.js";
import type { Setting } from "./setting.js";

/** A setting and what it does. */
export interface SettingEffect extends Effect {
  readonly setting: string;
}

/**
 * Runs the engine under every setting, and without anything changed where the run before was not that.
 * @param progress called with what is being done and how far it is, 0 to 1.
 * @param runs those that are there already.
 */
export async function* sweep(
  source: LiveSource,
  settings: readonly Setting[],
  progress: (stage: string, done: number) => void = () => {},
  runs: RecentRuns = new RecentRuns(source),
): AsyncGenerator<SettingEffect> {
  for (const [i, setting] of settings.entries()) {
    progress(setting.title, i / settings.length);
    const without = await runs.under(setting.neutral);
    const changed = await runs.under(setting.patches);
    yield { setting: setting.title, ...effectOf(without, changed) };
  }
}

/** The last two runs: neighbouring settings mostly share what they are compared with, and a run holds a step's values. */
export class RecentRuns {
  readonly #runs = new Map<string, LiveRun>();

  constructor(readonly source: LiveSource) {}

  /** @param recorder gets what is recorded, where the run is not there yet. */
  async under(patches: readonly Patch[], recorder?: Recorder): Promise<LiveRun> {
    const key = JSON.stringify(patches.map(({ title }) => title));
    const run = this.#runs.get(key) ?? (await runLive(this.source, patches, recorder));
    // The one asked for last is the last to go.
    this.#runs.delete(key);
    this.#runs.set(key, run);
    const [oldest] = this.#runs.keys();
    if (this.#runs.size > 2) this.#runs.delete(oldest!);
    return run;
  }
}
