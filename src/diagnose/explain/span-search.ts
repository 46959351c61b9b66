import type { Evaluator } from "../../spec/evaluator.js";
import type { GraphNode } from "../../spec/graph.js";
import { proposeNamed } from "../causes/catalogue.js";
import { type Hypothesis, role } from "../hypothesis.js";
import type { UnitCheck } from "../investigation.js";
import { spanOf, spanText } from "../span.js";
import type { Deadline } from "./deadline.js";
import type { Explanation, Judge } from "./judge.js";
import { rank } from "./rank.js";

/** Rows at which rewrites are screened: wrong ones that see few keys, since everything they rest on is computed anew. */
const screenedRows = 4;
/** A rewrite that leaves larger errors than this, in units of rounding, and a larger share of the spec's, is not looked at again. */
const screenLimit = 3;
const worthwhile = 0.2;
/** A rewrite that leaves at most this share of the spec's errors may be one half of the truth. */
const half = 0.8;
/** The same of the first of the rows alone. */
const promising = 0.9;
/** Rewrites that are looked at in one span, those of the nearest ops first. */
const mostCandidates = 8000;
/** Screened rewrites that are judged with all rows and their noise, nearest first. */
const judged = 8;
/** Share of the spec's errors that a fitted number may leave: a span would bend to many. */
const fittedLeft = 0.1;
/** Screened rewrites that few rows may not tell apart, and all rows are asked about. */
const rescreened = 48;
/** A |z| of more says no more. */
const farthestZ = 1e6;

/** A rewrite with the size of the errors it leaves, in units of rounding. */
interface Screened {
  readonly hypothesis: Hypothesis;
  readonly left: number;
}

/**
 * What inside a span of unrecorded ops explains the unit behind it: first what is written wrongly most often, then all other
 * named causes, then those with one number out of a list; each in all layers of the span alike, then layer by layer, nearest first, at all sites of a layer that it
 * fits and at single ones. Numbers are fitted last, and must leave next to nothing: a span would bend to many.
 */
export function searchSpan(
  judge: Judge,
  check: UnitCheck,
  sites: readonly GraphNode[],
  deadline: Deadline,
): Explanation[] {
  const screen = new Screen(judge, check);
  const halves: Screened[] = [];
  const byCause = new Map<string, Hypothesis[]>();
  const deep = judge.investigation.isDeep(check.node.name);
  let plain: Explanation[] = [];
  for (const part of ["plain", "other", "chosen", "fitted"] as const) {
    const screened: Screened[] = [];
    for (const hypothesis of candidates(judge, check, sites, part, deadline)) {
      if (deadline.passed) break;
      if (!hypothesis.places) byCause.set(hypothesis.cause, [...(byCause.get(hypothesis.cause) ?? []), hypothesis]);
      const left = screen.left(hypothesis);
      if (left === undefined) continue;
      judge.note(check, hypothesis, { errors: left, before: screen.before });
      if (left <= Math.max(screenLimit, worthwhile * screen.before)) screened.push({ hypothesis, left });
      if (left <= half * screen.before) halves.push({ hypothesis, left });
    }
    const found = screen
      .closest(screened)
      .flatMap(({ hypothesis }) => judge.judge(check, hypothesis) ?? [])
      .filter(({ left }) => part !== "fitted" || left <= fittedLeft * check.statistics.rmsZ);
    // Within a layer there is time to see whether a rarer cause does as well.
    if (part === "plain" && found.length > 0 && !deep && !deadline.passed) {
      plain = found;
      continue;
    }
    const all = [...plain, ...found];
    if (all.length > 0 || deadline.passed) return rank(fewestPlaces(all)).map((e) => inside(judge, check, e));
  }
  const screened = [...pairs(closest(halves), byCause)].flatMap((hypothesis) => {
    const left = deadline.passed ? undefined : screen.left(hypothesis);
    return left !== undefined && left <= screenLimit ? { hypothesis, left } : [];
  });
  const found = screen.closest(screened).flatMap(({ hypothesis }) => judge.judge(check, hypothesis) ?? []);
  return rank(found).map((e) => inside(judge, check, e));
}

/**
 * Two rewrites at once: one that takes a part of the errors away, and another such one, or whatever the same cause may do
 * elsewhere in the layer.
 */
function* pairs(
  halves: readonly Screened[],
  byCause: ReadonlyMap<string, readonly Hypothesis[]>,
): Generator<Hypothesis> {
  const layer = ({ site }: Hypothesis) => layerOf(site);
  for (const [i, { hypothesis: first }] of halves.entries()) {
    const written = new Set(first.replacements.map(({ name }) => name));
    const alike = (byCause.get(first.cause) ?? []).filter((second) => layer(second) === layer(first));
    const others = halves.slice(i + 1).map(({ hypothesis }) => hypothesis);
    for (const second of [...alike, ...others]) {
      if (second.replacements.some(({ name }) => written.has(name))) continue;
      const replacements = [...first.replacements, ...second.replacements];
      if (first.cause !== second.cause) yield { ...second, replacements, also: first, alone: second.replacements };
      else yield { ...first, replacements, places: [first, second].flatMap((one) => one.places ?? [one]) };
    }
  }
}

function layerOf(site: string): string | undefined {
  return /\.layers\.(\d+)/.exec(site)?.[1];
}

function* candidates(
  { investigation }: Judge,
  check: UnitCheck,
  sites: readonly GraphNode[],
  part: "plain" | "other" | "chosen" | "fitted",
  deadline: Deadline,
): Generator<Hypothesis> {
  let count = 0;
  const byLayer = new Map<number | undefined, Hypothesis[]>();
  for (const site of sites) {
    if (deadline.passed || count > mostCandidates) break;
    const proposal = { investigation, site, finding: check };
    const proposed =
      part === "chosen" || part === "fitted"
        ? proposeNamed(proposal).filter(part === "chosen" ? isChosen : isFitted)
        : proposeNamed(proposal, part).filter(({ fitted }) => fitted === 0);
    count += proposed.length;
    byLayer.set(site.layer, [...(byLayer.get(site.layer) ?? []), ...proposed]);
  }
  const kin = ({ site }: Hypothesis) => kinOf(investigation.graph.node(site));
  if (byLayer.size > 1) {
    const all = [...byLayer.values()].flat();
    yield* together(all, ({ site }) => role(site));
    yield* together(all, kin);
  }
  for (const proposed of byLayer.values()) {
    yield* together(proposed, kin);
    yield* proposed;
  }
}

/** Whether a rewrite has one number that the record chooses out of a list: a window, how many keys are skipped. */
function isChosen({ fitted, heldOut }: Hypothesis): boolean {
  return fitted === 1 && heldOut === undefined;
}

/** Whether a rewrite has one number that half of the record's columns gave and the other half judges. */
function isFitted({ fitted, heldOut }: Hypothesis): boolean {
  return fitted === 1 && heldOut !== undefined;
}

/** Ops that one piece of code computes: queries and keys of a layer, gate and up, both norms of the stream. */
function kinOf({ op, heads, inputs }: GraphNode): string {
  return op.kind === "linear" ? role(inputs[0]!) : `${op.kind} ${heads !== undefined}`;
}

/** One cause at all the places it was proposed for that have the same key. */
function* together(proposed: readonly Hypothesis[], keyOf: (hypothesis: Hypothesis) => string): Generator<Hypothesis> {
  const groups = new Map<string, Map<string, Hypothesis>>();
  for (const hypothesis of proposed) {
    const key = `${keyOf(hypothesis)} ${hypothesis.group} ${JSON.stringify(hypothesis.parameters)}`;
    const places = groups.get(key) ?? new Map<string, Hypothesis>();
    if (!places.has(hypothesis.site)) places.set(hypothesis.site, hypothesis);
    groups.set(key, places);
  }
  for (const group of groups.values()) {
    const places = [...group.values()];
    const replacements = places.flatMap((place) => place.replacements);
    const separate = new Set(replacements.map(({ name }) => name)).size === replacements.length;
    if (places.length > 1 && separate) yield { ...places[0]!, replacements, places };
  }
}

/** What is said of the layers around the place. */
function inside({ investigation }: Judge, { node }: UnitCheck, explanation: Explanation): Explanation {
  const span = spanOf(investigation, node);
  if (!span || span.first === span.last) return explanation;
  const told = (hypothesis: Hypothesis) => ({
    ...hypothesis,
    statement: `${hypothesis.statement}; found by search inside ${spanText(span)}, unrecorded`,
  });
  const { hypothesis } = explanation;
  return {
    ...explanation,
    hypothesis: { ...told(hypothesis), ...(hypothesis.places && { places: hypothesis.places.map(told) }) },
  };
}

/** Of one cause the explanation with the fewest places, and what is said of the layers that would do as well. */
function fewestPlaces(found: readonly Explanation[]): Explanation[] {
  const byGroup = new Map<string, Explanation[]>();
  for (const explanation of found) {
    const { group } = explanation.hypothesis;
    byGroup.set(group, [...(byGroup.get(group) ?? []), explanation]);
  }
  return [...byGroup.values()].map((same) => {
    const count = ({ hypothesis }: Explanation) => hypothesis.places?.length ?? 1;
    const [best, ...others] = same.sort((a, b) => count(a) - count(b) || a.statistics.rmsZ - b.statistics.rmsZ);
    const elsewhere = others.filter((other) => count(other) === count(best!)).map(({ hypothesis }) => hypothesis.site);
    if (elsewhere.length === 0) return best!;
    const statement = `${best!.hypothesis.statement} (or the same at ${elsewhere.join(" or ")})`;
    return { ...best!, hypothesis: { ...best!.hypothesis, statement } };
  });
}

/** The nearest ones. */
function closest(screened: readonly Screened[], most = judged): Screened[] {
  return [...screened].sort((a, b) => a.left - b.left).slice(0, most);
}

/** A unit at few of its rows, by values alone: the noise of a whole span is what costs. */
class Screen {
  readonly #rows: Int32Array;
  readonly #columns: Int32Array;
  readonly #observed: Float64Array;
  readonly #sigma: Float64Array;
  readonly #base: Evaluator;
  /** The spec's own errors at these rows, and at the first. */
  readonly before: number;
  readonly #beforeFirst: number;

  constructor(
    judge: Judge,
    readonly check: UnitCheck,
  ) {
    const { comparison } = check;
    const { rows } = judge.investigation.observations;
    const width = comparison.columns.length;
    const wrongest = Array.from(comparison.rows, (row, r) => ({
      r,
      row,
      off: worst(comparison.z.subarray(r * width, (r + 1) * width)),
    }));
    const most = Math.max(...wrongest.map(({ off }) => off));
    // The row's own worst element says whether it is wrong, against the worst of all.
    const chosen = wrongest
      .filter(({ off }) => off >= Math.min(most, Math.max(6, most / 30)))
      // A token that sees itself alone shows little.
      .filter(({ row }, _, all) => rows.position[row]! > 0 || all.every((other) => rows.position[other.row] === 0))
      .sort((a, b) => rows.keyCount(a.row) - rows.keyCount(b.row))
      .slice(0, screenedRows)
      .sort((a, b) => a.row - b.row);
    this.#rows = Int32Array.from(chosen, ({ row }) => row);
    this.#columns = comparison.columns;
    const picked = (of: Float64Array) =>
      Float64Array.from(
        { length: chosen.length * width },
        (_, i) => of[chosen[Math.floor(i / width)]!.r * width + (i % width)]!,
      );
    this.#observed = picked(comparison.observed);
    this.#sigma = picked(comparison.noise);
    this.#base = judge.quiet(judge.investigation.evaluator);
    const z = picked(comparison.z);
    this.before = this.#rms(z);
    this.#beforeFirst = this.#rms(z.subarray(0, width));
  }

  /** The errors a rewrite leaves; undefined when those of the first row are hardly smaller than the spec's. */
  left({ replacements }: Hypothesis): number | undefined {
    const evaluator = this.#base.rewritten(replacements);
    const { name } = this.check.node;
    const first = evaluator.evaluate(name, this.#rows.subarray(0, 1), this.#columns).value;
    if (this.#errors(first) > Math.max(screenLimit, promising * this.#beforeFirst)) return undefined;
    return this.#errors(evaluator.evaluate(name, this.#rows, this.#columns).value);
  }

  /** The nearest ones: where few rows leave more than are judged, by all rows. */
  closest(screened: readonly Screened[]): Screened[] {
    const few = closest(screened, rescreened);
    if (few.length <= judged) return few;
    const { node, comparison } = this.check;
    return closest(
      few.map(({ hypothesis }) => {
        const evaluator = this.#base.rewritten(hypothesis.replacements);
        const { value } = evaluator.evaluate(node.name, comparison.rows, this.#columns);
        const z = value.map((x, i) => (Object.is(x, comparison.observed[i]) ? 0 : comparison.observed[i]! - x));
        return {
          hypothesis,
          left: rms(
            z.map((off, i) => off / comparison.noise[i]!),
            comparison.noise,
          ),
        };
      }),
    );
  }

  #errors(value: Float64Array): number {
    return this.#rms(
      value.map((x, i) => (Object.is(x, this.#observed[i]) ? 0 : (this.#observed[i]! - x) / this.#sigma[i]!)),
    );
  }

  #rms(z: Float64Array): number {
    return rms(z, this.#sigma);
  }
}

/** Root mean square of z where sigma is finite. */
function rms(z: Float64Array, sigma: Float64Array): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < z.length; i++) {
    if (!Number.isFinite(sigma[i]!)) continue;
    const off = Math.abs(z[i]!);
    sum += (off < farthestZ ? off : farthestZ) ** 2;
    count++;
  }
  return Math.sqrt(sum / Math.max(1, count));
}

function worst(z: Float64Array): number {
  let most = 0;
  for (const x of z) most = Math.max(most, Math.min(farthestZ, Math.abs(x)));
  return most;
}
