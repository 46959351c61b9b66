import { InputError } from "../tensor/errors.js";
import type { Capture } from "./capture.js";
import type { StepEvent } from "./format.js";
import { openCapture } from "./reader.js";

/** Where a run was recorded: one path, or several of ranks that recorded on their own. */
export type RunPath = string | readonly string[];

/**
 * Opens the recording of a whole run: of all its ranks, where it has ranks.
 * @throws InputError when a rank is missing or there twice, or the ranks do not belong to one run.
 */
export function openRun(target: RunPath): Capture {
  const paths = typeof target === "string" ? [target] : target;
  const opened: Capture[] = [];
  try {
    for (const path of paths) opened.push(openCapture(path));
    const [first] = opened;
    if (!first) throw new InputError("expected a recording, found no path");
    if (opened.length === 1 && !first.ranks) return first;
    return joined(first, opened);
  } catch (error) {
    for (const capture of opened) capture.close();
    throw error;
  }
}

/** One capture of all ranks' recordings. */
function joined(first: Capture, captures: readonly Capture[]): Capture {
  const steps = new Map<number, readonly StepEvent[]>();
  const home = new Map<number, string>();
  for (const { path, ranks } of captures) {
    if (!ranks || !first.ranks)
      throw new InputError(
        `${(ranks ? first : { path }).path}: expected a recording of a rank (format version 2) beside other recordings, found one without ranks`,
      );
    if (ranks.world !== first.ranks.world)
      throw new InputError(
        `${path}: world: expected ${first.ranks.world}, as in ${first.path}, found ${ranks.world}: not ranks of one run`,
      );
    for (const [rank, own] of ranks.steps) {
      const before = home.get(rank);
      if (before !== undefined)
        throw new InputError(`${path}: rank: expected every rank once, rank ${rank} is recorded in ${before} too`);
      home.set(rank, path);
      steps.set(rank, own);
    }
  }
  const { world } = first.ranks!;
  const missing = Array.from({ length: world }, (_, rank) => rank).filter((rank) => !steps.has(rank));
  if (missing.length > 0) {
    const which = `rank${missing.length > 1 ? "s" : ""} ${missing.slice(0, 8).join(", ")}${missing.length > 8 ? ", …" : ""}`;
    throw new InputError(
      `${first.path}: world: expected the recordings of all ${world} ranks, ${which} missing: give the directories of all ranks`,
    );
  }
  // After a crash one rank may have come further than another.
  const fewest = Math.min(...[...steps.values()].map(({ length }) => length));
  const ordered = new Map([...steps].sort(([a], [b]) => a - b).map(([rank, own]) => [rank, own.slice(0, fewest)]));
  expectSameSteps(ordered, home);
  const byRank = captures.flatMap(({ records }) => records).sort((a, b) => a.rank! - b.rank! || a.order - b.order);
  return {
    path: captures.length === 1 ? first.path : `${home.get(0)} and ${captures.length - 1} more`,
    kind: "faultline",
    manifest: captures.find(({ ranks }) => ranks!.steps.has(0))!.manifest,
    steps: ordered.get(0)!,
    ranks: { world, steps: ordered },
    samples: captures.find(({ samples }) => samples.length > 0)?.samples ?? [],
    paddings: captures.find(({ ranks }) => ranks!.steps.has(0))!.paddings,
    records: byRank,
    skipped: captures.flatMap(({ skipped }) => skipped),
    close() {
      for (const capture of captures) capture.close();
    },
  };
}

/** Every rank computes the same rows in the same steps; what else it says of them may differ, and is looked at later. */
function expectSameSteps(steps: ReadonlyMap<number, readonly StepEvent[]>, home: ReadonlyMap<number, string>): void {
  const [[, first]] = steps as unknown as [[number, readonly StepEvent[]]];
  for (const [rank, own] of steps) {
    const fail = (what: string) => {
      throw new InputError(`${home.get(rank)}: ${what}: not ranks of one run`);
    };
    for (const [i, step] of own.entries()) {
      for (const field of ["step", "seq_ids", "token_ids", "qo_indptr", "padded", "row_map"] as const) {
        if (String(step[field]) !== String(first[i]![field]))
          fail(`${field} of step ${step.step}: expected rank ${rank} to have what rank 0 has`);
      }
    }
  }
}
