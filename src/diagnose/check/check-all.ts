import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Investigation } from "../investigation.js";
import type { InvestigationSource } from "../open-investigation.js";
import { checkUnit } from "./check-unit.js";
import type { Shares } from "./coverage.js";
import type { UnitCheck } from "./unit-check.js";
import { type CheckOnWire, fromWire } from "./wire.js";

/** Elements of cheap units that are compared one by one in all; of larger recordings an even share. */
const pointwiseElements = 4e8;
/** The same of attention, in multiply-adds. */
const attentionSteps = 3e9;
/** Nanoseconds of work from which threads pay for their start. */
const worthThreads = 2e9;
const mostThreads = 8;
/** Threads run compiled code; where the source itself runs, everything is done here. */
const compiled = import.meta.url.endsWith(".js");

/**
 * Checks every unit of a recording, on as many threads as there are cores when there is enough to do.
 * @param progress share of the work that is done.
 */
export async function checkAll(
  investigation: Investigation,
  source: InvestigationSource,
  progress: (done: number) => void,
): Promise<UnitCheck[]> {
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
    return units.map(({ name }) => {
      const check = checkUnit(investigation, name, shares);
      report([name]);
      return check;
    });
  }
  const found = await onThreads(
    batchesOf(investigation, costs, total / (threads * 4)),
    source,
    threads,
    shares,
    report,
  );
  return units.map(({ name }) => fromWire(investigation, found.get(name)!));
}

function sharesOf(investigation: Investigation): Shares {
  let elements = 0;
  let steps = 0;
  for (const { name, op } of investigation.units()) {
    if (op.kind === "attention")
      steps += attentionCost(investigation, name, investigation.observations.outputRows(name));
    else if (investigation.isPointwise(name)) elements += investigation.elementsOf(name);
  }
  const within = (budget: number, cost: number) => Math.min(1, budget / Math.max(1, cost));
  return { pointwise: within(pointwiseElements, elements), attention: within(attentionSteps, steps) };
}

/** Multiply-adds of attention's rows. */
function attentionCost({ graph, observations }: Investigation, name: string, rows: Int32Array): number {
  let keys = 0;
  for (const row of rows) keys += observations.rows.keyCount(row);
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
    return 2 * attentionCost(investigation, name, investigation.observations.outputRows(name));
  }
  return 60 * elements * investigation.interior(name).length;
}

function onThreads(
  batches: readonly (readonly string[])[],
  source: InvestigationSource,
  threads: number,
  shares: Shares,
  report: (names: readonly string[]) => void,
): Promise<Map<string, CheckOnWire>> {
  return new Promise((resolve, reject) => {
    const found = new Map<string, CheckOnWire>();
    const pool = Array.from({ length: Math.min(threads, batches.length) }, () => {
      const { target, model, mask } = source;
      return new Worker(new URL("./worker.js", import.meta.url), { workerData: { target, model, mask } });
    });
    let next = 0;
    let open = batches.length;
    const end = (finish: () => void) => {
      for (const worker of pool) void worker.terminate();
      finish();
    };
    for (const worker of pool) {
      worker.on("message", (checks: readonly CheckOnWire[]) => {
        for (const check of checks) found.set(check.name, check);
        if (checks.length > 0) {
          report(checks.map(({ name }) => name));
          open--;
        }
        if (open === 0) end(() => resolve(found));
        else if (next < batches.length) worker.postMessage({ names: batches[next++], shares });
      });
      worker.on("error", (error) => end(() => reject(error)));
      worker.on("exit", (code) => {
        if (open > 0 && code !== 0) end(() => reject(new Error(`a checking thread ended with code ${code}`)));
      });
    }
  });
}
