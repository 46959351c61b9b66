import { availableParallelism } from "node:os";
import { checkUnit } from "../check/check-unit.js";
import type { Shares } from "../check/coverage.js";
import type { Investigation } from "../check/investigation.js";
import type { InvestigationSource } from "../check/open-investigation.js";
import type { UnitCheck } from "../check/unit-check.js";
import { attentionCost, batchesOf, costsOf, rolesOf } from "./batches.js";
import { type HiddenCauses, hiddenCauses } from "./hidden-causes.js";
import { type Share, unitsOfShare } from "./share.js";
import { Threads } from "./threads.js";
import { adoptRoles, checkBatch, fromWire, settleRoles } from "./wire.js";
import { workOf } from "./work.js";

/** Elements of cheap units that are compared one by one in all; of larger recordings an even share. */
const pointwiseElements = 4e8;
/** The same of attention, in multiply-adds. */
const attentionSteps = 3e9;
/** Nanoseconds of work from which threads pay for their start. */
const worthThreads = 2e9;
const mostThreads = 8;
/** So many that all threads end at about the same time. */
const batchesPerThread = 16;
/** Threads run compiled code; where the source itself runs, everything is done here. */
const compiled = import.meta.url.endsWith(".js");

/** Checked units, and a search for what the recording could not have shown of them, begun once and beside other work. */
export interface CheckedUnits {
  readonly checks: readonly UnitCheck[];
  hiddenCauses(): HiddenCauses;
  /** Ends the threads where nobody asks. */
  end(): void;
}

/**
 * Checks every unit of a recording, on as many threads as there are cores when there is enough to do.
 * @param progress share of the work that is done.
 * @param share the units to check: all when absent.
 */
export async function checkAll(
  investigation: Investigation,
  source: InvestigationSource,
  progress: (done: number) => void,
  share?: Share,
): Promise<CheckedUnits> {
  const chosen = share && unitsOfShare(investigation, share);
  const units = investigation.units().filter(({ name }) => !chosen || chosen.has(name));
  const costs = costsOf(investigation);
  const total = units.reduce((sum, { name }) => sum + costs.get(name)!, 0);
  const shares = sharesOf(investigation);
  let done = 0;
  const report = (names: readonly string[]) => {
    for (const name of names) done += costs.get(name)!;
    progress(done / total);
  };
  const count = Math.min(availableParallelism(), mostThreads);
  if (!compiled || count < 2 || total < worthThreads) {
    const checks = units.map(({ name }) => {
      const check = checkUnit(investigation, name, shares);
      report([name]);
      return check;
    });
    return { checks, hiddenCauses: () => hiddenCauses(investigation, checks), end() {} };
  }
  const batches = batchesOf(units, costs, total / (count * batchesPerThread));
  const roles = workOf(rolesOf(investigation, units));
  const threads = new Threads(source, { roles, batches: workOf(batches), shares }, count - 1);
  const found = await threads.check({
    settle: (names) => settleRoles(investigation, names),
    adopt: (settled) => adoptRoles(investigation, settled),
    check: (names) => checkBatch(investigation, names, shares),
    report,
  });
  const onWire = units.map(({ name }) => found.get(name)!);
  const checks = onWire.map((check) => fromWire(investigation, check));
  return {
    checks,
    hiddenCauses: () => hiddenCauses(investigation, checks, { threads, checks: onWire }),
    end: () => threads.end(),
  };
}

function sharesOf(investigation: Investigation): Shares {
  let elements = 0;
  let steps = 0;
  for (const { name, op } of investigation.units()) {
    if (op.kind === "attention") steps += attentionCost(investigation, name);
    else if (investigation.isPointwise(name)) elements += investigation.elementsOf(name);
  }
  const within = (budget: number, cost: number) => Math.min(1, budget / Math.max(1, cost));
  return { pointwise: within(pointwiseElements, elements), attention: within(attentionSteps, steps) };
}
