import { availableParallelism } from "node:os";
import { checkUnit } from "../check/check-unit.js";
import type { Shares } from "../check/coverage.js";
import type { Investigation } from "../check/investigation.js";
import type { InvestigationSource } from "../check/open-investigation.js";
import type { UnitCheck } from "../check/unit-check.js";
import { Deadline } from "../explain/deadline.js";
import { type NotVisible, sensitivity } from "../explain/visibility.js";
import { Threads } from "./threads.js";
import { fromWire } from "./wire.js";

/** Elements of cheap units that are compared one by one in all; of larger recordings an even share. */
const pointwiseElements = 4e8;
/** The same of attention, in multiply-adds. */
const attentionSteps = 3e9;
/** Nanoseconds of work from which threads pay for their start. */
const worthThreads = 2e9;
const mostThreads = 8;
/** Time to look for what the recording could not have shown, in milliseconds. */
const sensitivitySearch = 4000;
/** Threads run compiled code; where the source itself runs, everything is done here. */
const compiled = import.meta.url.endsWith(".js");

/** Checked units, and what the recording could not have shown of them: asked for once, answered beside other work. */
export interface CheckedUnits {
  readonly checks: readonly UnitCheck[];
  notVisible(): Promise<readonly NotVisible[]>;
  /** Ends the threads where nobody asks. */
  end(): void;
}

/**
 * Checks every unit of a recording, on as many threads as there are cores when there is enough to do.
 * @param progress share of the work that is done.
 */
export async function checkAll(
  investigation: Investigation,
  source: InvestigationSource,
  progress: (done: number) => void,
): Promise<CheckedUnits> {
  const units = investigation.units();
  const costs = new Map(units.map(({ name }) => [name, costOf(investigation, name)]));
  const total = [...costs.values()].reduce((sum, cost) => sum + cost, 0);
  const shares = sharesOf(investigation);
  let done = 0;
  const report = (names: readonly string[]) => {
    for (const name of names) done += costs.get(name)!;
    progress(done / total);
  };
  const threads = Math.min(availableParallelism(), mostThreads);
  if (!compiled || threads < 2 || total < worthThreads) {
    const checks = units.map(({ name }) => {
      const check = checkUnit(investigation, name, shares);
      report([name]);
      return check;
    });
    const notVisible = async () => sensitivity(investigation, checks, new Deadline(sensitivitySearch));
    return { checks, notVisible, end() {} };
  }
  const batches = batchesOf(investigation, costs, total / (threads * 4));
  const pool = new Threads(source, Math.min(threads, batches.length));
  const found = await pool.check(batches, shares, report);
  const onWire = units.map(({ name }) => found.get(name)!);
  return {
    checks: onWire.map((check) => fromWire(investigation, check)),
    notVisible: () => pool.notVisible(onWire, sensitivitySearch),
    end: () => pool.end(),
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

/** Multiply-adds of attention's recorded rows. */
function attentionCost({ graph, observations }: Investigation, name: string): number {
  let keys = 0;
  for (const row of observations.outputRows(name)) keys += observations.rows.keyCount(row);
  return 2 * keys * graph.node(name).columns;
}

/** Units in batches of about the same cost, neighbours together since they share their inputs; the dearest first. */
function batchesOf(
  investigation: Investigation,
  costs: ReadonlyMap<string, number>,
  target: number,
): (readonly string[])[] {
  const batches: { names: string[]; cost: number }[] = [];
  for (const { name } of investigation.units()) {
    const cost = costs.get(name)!;
    const last = batches.at(-1);
    if (last && last.cost + cost <= target) {
      last.names.push(name);
      last.cost += cost;
    } else batches.push({ names: [name], cost });
  }
  return batches.sort((a, b) => b.cost - a.cost).map(({ names }) => names);
}

/** Nanoseconds that checking a unit takes, roughly: for sharing out work and telling how far it is. */
function costOf(investigation: Investigation, name: string): number {
  const { op, inputs, columns } = investigation.graph.node(name);
  const elements = investigation.elementsOf(name);
  const { rows, columns: sampled } = investigation.sample(name);
  if (op.kind === "linear") {
    const width = investigation.graph.node(inputs[0]!).columns;
    return 3 * elements + 2 * columns * width + 2 * rows.length * sampled.length * width;
  }
  if (op.kind === "attention") {
    return 2 * attentionCost(investigation, name);
  }
  return 60 * elements * investigation.interior(name).length;
}
