import type { JudgedRun } from "../diagnose/reference/judged-run.js";
import type { LiveFault } from "../lab/live/faults.js";
import type { Setting } from "../lab/live/setting.js";
import type { SettingEffect } from "../lab/live/sweep.js";

/** The causes of a verdict, a line each. */
export function causeLines({ verdict }: JudgedRun): string[] {
  return verdict.causes.map(({ cause, units, layers }) => {
    const where = layers.length === 0 ? units[0]! : `layer${layers.length === 1 ? "" : "s"} ${layers.join(", ")}`;
    return `${cause.padEnd(20)}${where}`;
  });
}

/** What a setting does, in a line. */
export function effectLine({ setting, first, elements, layers }: SettingEffect): string {
  const share = ((100 * elements.changed) / elements.of).toFixed(0);
  const largest = Math.max(...layers.map(({ largest }) => largest.with));
  return `${setting.padEnd(20)}${first?.value ?? "nothing"} changes first, ${share} % of all elements do; the stream reaches ${Number(largest.toPrecision(2))}`;
}

/** Settings that take faults out of the running path, one after the other. */
export function takenOut(faults: readonly LiveFault[]): Setting[] {
  return faults.map(({ name }, i) => ({ title: name, patches: faults.slice(i + 1), neutral: faults.slice(i) }));
}
