import type { GraphNode } from "../../spec/graph.js";
import type { CauseId } from "../causes/catalogue.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { UnitCheck } from "../check/investigation.js";
import { spanOf, spanText } from "../check/span.js";
import { Deadline } from "./deadline.js";
import type { Explanation } from "./explanation.js";
import type { Judge } from "./judge.js";
import { rank } from "./rank.js";
import { closest, Screen, type Screened, screenLimit } from "./screen.js";
import { candidates, spanParts, type WithOneNumber } from "./span-candidates.js";

/** Share of the spec's errors that a rewrite may leave, beyond the screen's limit, and still be looked at again. */
const worthwhile = 0.2;
/** A rewrite that leaves at most this share of the spec's errors may be one half of the truth. */
const half = 0.8;
/** Share of the spec's errors that a fitted number may leave: a span would bend to many. */
const fittedLeft = 0.1;
/** Time for narrow formats of every operand and weight, in milliseconds: there are many. */
const fineSearch = 5_000;
/** -ln of the probability that a cause is told that only chance made the best of those tried. */
const doubt = Math.log(1e6);

/**
 * What inside a span of unrecorded ops explains the unit behind it: named causes first, and where none does alone, two at
 * once. Numbers are fitted last, and must leave next to nothing: a span would bend to many.
 */
export function searchSpan(
  judge: Judge,
  check: UnitCheck,
  sites: readonly GraphNode[],
  deadline: Deadline,
): Explanation[] {
  const screen = new Screen(judge, check);
  const halves: Screened[] = [];
  const byCause = new Map<CauseId, Hypothesis[]>();
  const deep = judge.investigation.isDeep(check.node.name);
  const numbered: WithOneNumber = new Map();
  let large: Explanation[] = [];
  for (const part of spanParts) {
    const screened: Screened[] = [];
    const fine = part === "fine";
    const until = fine ? new Deadline(fineSearch, deadline) : deadline;
    for (const hypothesis of candidates(judge.investigation, check, sites, part, until, numbered)) {
      if (until.passed) break;
      if (!hypothesis.places && !fine) addTo(byCause, hypothesis.cause, hypothesis);
      const left = screen.left(hypothesis, fine);
      if (left === undefined) continue;
      judge.note(check, hypothesis, { errors: left, before: screen.before });
      if (left <= Math.max(screenLimit, worthwhile * screen.before)) screened.push({ hypothesis, left });
      if (left <= half * screen.before && !fine) halves.push({ hypothesis, left });
    }
    const found = screen
      .closest(screened, fine)
      .flatMap(({ hypothesis }) => judge.judge(check, hypothesis) ?? [])
      .filter(({ left }) => part !== "fitted" || left <= fittedLeft * check.statistics.rmsZ)
      .filter((explanation) => !fine || isBeyondChance(explanation, check, judge.spans.tries(check)));
    // Within a layer there is time to see whether a rarer cause does as well.
    if (part === "large" && found.length > 0 && !deep && !deadline.passed) {
      large = found;
      continue;
    }
    const all = [...large, ...found];
    if (all.length > 0 || deadline.passed) return rank(fewestPlaces(all)).map((e) => inside(judge, check, e));
  }
  const screened = [...pairs(judge, closest(halves), byCause)].flatMap((hypothesis) => {
    const left = deadline.passed ? undefined : screen.left(hypothesis);
    return left !== undefined && left <= screenLimit ? { hypothesis, left } : [];
  });
  const found = screen.closest(screened).flatMap(({ hypothesis }) => judge.judge(check, hypothesis) ?? []);
  return rank(found).map((e) => inside(judge, check, e));
}

/**
 * Whether a rewrite leaves less of a unit than the best of so many that have nothing to do with it: one of them leaves a share s
 * or less of n independent rows with probability s^(n - 1). Bits pay for the tries themselves.
 */
function isBeyondChance({ matched, left }: Explanation, { statistics }: UnitCheck, tries: number): boolean {
  const rows = Math.max(1, statistics.distinctRows);
  return matched || (rows - 1) * Math.log(statistics.rmsZ / left) > Math.log(tries) + doubt;
}

function addTo<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/**
 * Two rewrites at once: one that takes a part of the errors away, and another such one, or whatever the same cause may do
 * elsewhere in the layer.
 */
function* pairs(
  { investigation }: Judge,
  halves: readonly Screened[],
  byCause: ReadonlyMap<CauseId, readonly Hypothesis[]>,
): Generator<Hypothesis> {
  const layer = ({ site }: Hypothesis) => investigation.graph.node(site).layer;
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

/** What is said of the layers around the place. */
function inside({ investigation }: Judge, { node }: UnitCheck, explanation: Explanation): Explanation {
  const span = spanOf(investigation, node);
  if (!span || span.first === span.last) return explanation;
  return saying(explanation, `; found by search inside ${spanText(span)}, unrecorded`);
}

/** The explanation with more said of its cause, at all of its places. */
function saying(explanation: Explanation, more: string): Explanation {
  const told = (hypothesis: Hypothesis): Hypothesis => ({
    ...hypothesis,
    statement: `${hypothesis.statement}${more}`,
    ...(hypothesis.places && { places: hypothesis.places.map(told) }),
  });
  return { ...explanation, hypothesis: told(explanation.hypothesis) };
}

/** Of one cause the explanation with the fewest places, and what is said of the layers that would do as well. */
function fewestPlaces(found: readonly Explanation[]): Explanation[] {
  const byGroup = new Map<string, Explanation[]>();
  for (const explanation of found) {
    addTo(byGroup, explanation.hypothesis.group, explanation);
  }
  return [...byGroup.values()].map((same) => {
    const count = ({ hypothesis }: Explanation) => hypothesis.places?.length ?? 1;
    const [best, ...others] = same.sort((a, b) => count(a) - count(b) || a.statistics.rmsZ - b.statistics.rmsZ);
    const elsewhere = new Set(
      others.filter((other) => count(other) === count(best!)).map(({ hypothesis }) => hypothesis.site),
    );
    elsewhere.delete(best!.hypothesis.site);
    if (elsewhere.size === 0) return best!;
    return saying(best!, ` (or the same at ${[...elsewhere].join(" or ")})`);
  });
}
