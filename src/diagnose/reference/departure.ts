import type { Graph } from "../../spec/graph.js";
import { wrongRows } from "../explain/assemble.js";
import type { Finding } from "../tell/verdict.js";
import type { JudgedRun } from "./judged-run.js";

/** A place at which a run is not what the model means, beyond rounding. */
export interface Departure {
  /** Unit, or value whose producer and consumer disagree, or what the host got wrong. */
  readonly unit: string;
  /** Rows of the run that are wrong. */
  readonly rows: readonly number[];
  /** Index into the run's causes, or null when nothing explains it. */
  readonly cause: number | null;
}

/** How a run stands at a value that it may not have recorded itself. */
export type Standing = "right" | "wrong" | "unrecorded";

/** A judged run and where it departs from the model; traps that change nothing are left out. */
export class Departures {
  readonly all: readonly Departure[];
  readonly #units: ReadonlySet<string>;

  constructor(readonly run: JudgedRun) {
    const { findings, causes } = run.verdict;
    const real = findings.filter(({ cause }) => cause === null || !causes[cause]!.latent);
    this.all = real.map((finding) => ({
      unit: finding.unit,
      rows: this.#rowsOf(finding),
      cause: finding.cause,
    }));
    this.#units = new Set(this.all.map(({ unit }) => unit));
  }

  /**
   * Whether the run is right at `name`: by its own record of it, else by those of its records that rest on it.
   * @param other graph of the run that has the value, where this one's has not.
   */
  at(name: string, other: Graph): Standing {
    if (this.#units.has(name)) return "wrong";
    const { graph, observations } = this.run.investigation;
    const visited = new Set([name]);
    let standing: Standing = "unrecorded";
    for (const value of visited) {
      if (this.#units.has(value)) return "wrong";
      if (observations.outputRows(value).length > 0) standing = "right";
      else for (const reader of (graph.find(value) ? graph : other).consumers(value)) visited.add(reader);
    }
    return standing;
  }

  #rowsOf({ unit, step, cause }: Finding): readonly number[] {
    const check = this.run.checks.find(({ node }) => node.name === unit);
    const wrong = check && check.excess > 1 ? wrongRows(check.comparison) : [];
    if (wrong.length > 0) return wrong;
    const { rows } = this.run.investigation.observations;
    const steps = new Set(cause === null ? [step] : [step, ...this.run.verdict.causes[cause]!.steps]);
    return rows.steps.flatMap((placed, i) => (steps.has(placed.step) ? [...rows.rowsOf(i)] : []));
  }
}
