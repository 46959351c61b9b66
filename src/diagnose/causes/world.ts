import type { Investigation } from "../check/investigation.js";

/** How many ranks recorded a run; 1 where it has none. */
export function worldOf({ capture }: Investigation): number {
  return capture.ranks?.world ?? 1;
}
