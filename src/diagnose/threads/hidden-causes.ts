import type { Investigation, UnitCheck } from "../check/investigation.js";
import { Deadline } from "../explain/deadline.js";
import { type Effects, effectsOn, type NotVisible, notVisible, witnesses } from "../explain/visibility.js";
import type { Threads } from "./threads.js";
import type { CheckOnWire } from "./wire.js";
import { take, type Work, workOf } from "./work.js";

/** Time to look for what the recording could not have shown, in milliseconds. */
const searchTime = 4000;

/** A search that is under way elsewhere: helps it, and waits for what it finds. */
export type HiddenCauses = () => Promise<readonly NotVisible[]>;

/** What rewrites would do to the witnesses among the checks that nobody else takes. */
export function searchEffects(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  work: Work<number>,
  milliseconds: number,
): ReadonlyMap<number, Effects> {
  const deadline = new Deadline(milliseconds);
  const units = witnesses(investigation, checks);
  const found = new Map<number, Effects>();
  for (const i of take(work)) found.set(i, effectsOn(investigation, units[i]!, deadline));
  return found;
}

/** Looks for what the recording could not have shown: in one of the threads where there are any, and here as soon as it is asked for. */
export function hiddenCauses(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  elsewhere?: { readonly threads: Threads; readonly checks: readonly CheckOnWire[] },
): HiddenCauses {
  const work = workOf([...witnesses(investigation, checks).keys()]);
  const question = { witnesses: work, milliseconds: searchTime };
  const others = elsewhere?.threads.effects({ ...question, checks: elsewhere.checks });
  return async () => {
    const here = searchEffects(investigation, checks, work, searchTime);
    const there = (await others) ?? new Map<number, Effects>();
    return notVisible(work.pieces.map((i) => here.get(i) ?? there.get(i)!));
  };
}
