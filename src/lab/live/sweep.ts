import type { Patch } from "../../engine/program/patch.js";
import { type Effect, effectOf } from "./effect.js";
import { type LiveRun, type LiveSource, runLive } from "./live-run.js";
import type { Setting } from "./setting.js";

/** A setting and what it does. */
export interface SettingEffect extends Effect {
  readonly setting: string;
}

/**
 * Runs the engine under every setting, and once without anything changed per kind of program that the settings have.
 * @param progress called with what is being done and how far it is, 0 to 1.
 */
export async function* sweep(
  source: LiveSource,
  settings: readonly Setting[],
  progress: (stage: string, done: number) => void = () => {},
): AsyncGenerator<SettingEffect> {
  const unchanged = new UnchangedRuns(source);
  for (const [i, setting] of settings.entries()) {
    progress(setting.title, i / settings.length);
    const without = await unchanged.under(setting.neutral);
    const changed = await runLive(source, setting.patches);
    yield { setting: setting.title, ...effectOf(without, changed) };
  }
}

/** The last run without a change: neighbouring settings mostly share it, and a run holds every value of its step. */
class UnchangedRuns {
  #last: { readonly key: string; readonly run: LiveRun } | undefined;

  constructor(readonly source: LiveSource) {}

  async under(patches: readonly Patch[]): Promise<LiveRun> {
    const key = JSON.stringify(patches.map(({ title }) => title));
    if (this.#last?.key !== key) this.#last = { key, run: await runLive(this.source, patches) };
    return this.#last.run;
  }
}
