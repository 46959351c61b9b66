import type { StepEvent } from "../../capture/format.js";
import { claimedKeys } from "../../capture/key-slots.js";
import type { Investigation } from "../check/investigation.js";

/** A page table that was planned in one step and read in later ones. */
export interface StalePlan {
  /** Number of the step that the table is of. */
  readonly planned: number;
  /** Indices of the steps that read it although every sequence has grown since. */
  readonly readIn: ReadonlySet<number>;
  /** Whether its lengths are also those from before each step's own tokens: no step tells the two apart. */
  readonly isBeforeTokens: boolean;
  /** Whether pages that the new tokens need are missing too: more than the last pages' lengths is old. */
  readonly lacksPages: boolean;
}

/** The plan behind all lengths of a run that are not what token counts say; undefined where one of them has another reason. */
export function stalePlan({ capture, observations }: Investigation): StalePlan | undefined {
  const { steps } = observations.rows;
  const wrong = capture.steps.flatMap((step, index) =>
    steps[index]!.lengths.some((length, b) => (claimedKeys(step, b) ?? length) !== length) ? [index] : [],
  );
  const [first] = wrong;
  if (first === undefined) return undefined;
  const earlier = capture.steps.findIndex((step, index) => index < first && hasSameTable(step, capture.steps[first]!));
  const before = steps[earlier]?.lengths;
  const isStale = (index: number) =>
    hasSameTable(capture.steps[earlier]!, capture.steps[index]!) &&
    steps[index]!.lengths.every((length, b) => length > before![b]!);
  if (!before || !wrong.every(isStale)) return undefined;
  const isBeforeTokens = wrong.every((index) => {
    const { lengths, qoIndptr } = steps[index]!;
    return lengths.every((length, b) => length - (qoIndptr[b + 1]! - qoIndptr[b]!) === before[b]);
  });
  const lacksPages = wrong.some((index) => {
    const { kv_indptr: pages, page_size: size } = capture.steps[index]!;
    return (
      pages !== undefined &&
      size !== undefined &&
      steps[index]!.lengths.some((length, b) => pages[b + 1]! - pages[b]! < Math.ceil(length / size))
    );
  });
  return { planned: capture.steps[earlier]!.step, readIn: new Set(wrong), isBeforeTokens, lacksPages };
}

/** Whether lengths of the last pages alone are old, as far as the recording shows: that has a name of its own. */
export function isLengthsAlone({ isBeforeTokens, lacksPages }: StalePlan): boolean {
  return isBeforeTokens && !lacksPages;
}

/** Where the table comes from, in words. */
export function originOf({ planned, isBeforeTokens }: StalePlan): string {
  return isBeforeTokens
    ? `the page table of step ${planned}, run again or prepared before this step's tokens were counted`
    : `the page table of step ${planned}, planned once and run again`;
}

function hasSameTable(a: StepEvent, b: StepEvent): boolean {
  return (["seq_ids", "kv_indptr", "kv_indices", "kv_last_page_len"] as const).every(
    (field) => a[field] !== undefined && a[field].join() === b[field]?.join(),
  );
}
