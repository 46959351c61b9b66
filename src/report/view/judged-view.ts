import type { Detokenize } from "../../diagnose/prove/free-run.js";
import { AlignedRows } from "../../diagnose/reference/aligned-rows.js";
import type { JudgedRun } from "../../diagnose/reference/judged-run.js";
import type { OpenRuns } from "../../diagnose/street.js";
import type { PageData, UnitElements } from "../html/page-data.js";
import { pageData } from "../html/page-words.js";
import { runView } from "../html/run-view.js";
import { seamElements } from "../html/seam-elements.js";
import { shownSample } from "../html/shown-sample.js";
import { type ReadReference, unitElements } from "../html/unit-elements.js";
import type { ReportContext } from "../report-format.js";

/** Multiply-adds that one look at a unit may cost. */
const lookBudget = 1e9;

/** A judged run whose files are open: its page, and the elements of any unit. */
export class JudgedView {
  readonly page: PageData;
  readonly #run: JudgedRun;
  readonly #readReference: ReadReference | undefined;

  constructor({ diagnosis, run, reference }: OpenRuns, context: ReportContext, detokenize: Detokenize) {
    this.#run = run;
    this.page = pageData(diagnosis, context, runView(run, detokenize), true);
    this.#readReference = reference && referenceReader(run, reference);
  }

  /**
   * Elements of one unit.
   * @param step index of the only step wanted; absent: all.
   * @returns a sentence where there are none to show.
   */
  elements(unit: string, step?: number): UnitElements | string {
    const { investigation, checks } = this.#run;
    const value = this.page.run.values.find(({ name }) => name === unit);
    if (!value) return "No such value was recorded.";
    if (step !== undefined && !investigation.capture.steps[step]) return "No such step was recorded.";
    const seam = value.state === "seam" ? seamElements(investigation, unit) : undefined;
    if (seam) return seam;
    const check = checks.find(({ node }) => node.name === unit);
    if (!check) return "It was recorded only as it was read: there is nothing to hold it against.";
    const sample = shownSample(investigation, unit, lookBudget, step);
    if (!sample)
      return step !== undefined && !value.steps.includes(step)
        ? "It was not recorded in this step."
        : "Even a few of its elements rest on more than can be evaluated while one waits.";
    return unitElements(this.#run, check, sample, this.#readReference) ?? "It holds no floating-point numbers.";
  }
}

/** Where rows of the same text stand in a reference run; NaN elsewhere. */
function referenceReader(run: JudgedRun, reference: JudgedRun): ReadReference {
  const [ours, theirs] = [run.investigation, reference.investigation];
  const aligned = new AlignedRows(ours.observations.rows, theirs.observations.rows);
  return (name, { rows, columns }) => {
    if (theirs.graph.find(name)?.columns !== ours.graph.node(name).columns) return undefined;
    const pairs = new Map(
      aligned.pairs(rows, theirs.observations.outputRows(name)).map((pair) => [pair.target, pair.reference]),
    );
    if (pairs.size === 0) return undefined;
    const out = new Float64Array(rows.length * columns.length).fill(Number.NaN);
    rows.forEach((row, r) => {
      const other = pairs.get(row);
      if (other !== undefined) out.set(theirs.observed(name, Int32Array.of(other), columns), r * columns.length);
    });
    return out;
  };
}
