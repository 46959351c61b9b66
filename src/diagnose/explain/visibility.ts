import type { Evaluator } from "../../spec/evaluator.js";
import { roleOf } from "../../spec/site.js";
import type { DType } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import { withScratch } from "../../tensor/scratch.js";
import type { Sample } from "../bits/sample.js";
import { type Statistics, statisticsOf } from "../bits/statistics.js";
import { type CauseId, propose, proposeFixed } from "../causes/catalogue.js";
import { type Hypothesis, rewritesLayer, short } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Deadline } from "./deadline.js";

/** A unit that is right, on few elements. */
interface Base {
  readonly check: UnitCheck;
  readonly sample: Sample;
  /** Its elements as the spec has them. */
  readonly expected: Float64Array;
  /** Whether an element is one that could have shown a difference. */
  readonly shows: readonly boolean[];
}

/** Share of changed elements from which nobody has to look closer: the unit would have failed. */
const clearly = 0.1;

/**
 * What a rewrite would do to a unit: whether it would have shown, and the share of elements it changes.
 * @param quiet the spec's evaluator without noise, whose rewrites share what they do not touch.
 */
function effect(
  investigation: Investigation,
  base: Base,
  replacements: Hypothesis["replacements"],
  quiet: Evaluator,
): { visible: boolean; changed: number } {
  const { check, sample, expected, shows } = base;
  const { node, recipe, matched } = check;
  if (!matched || !recipe) {
    const moved = quiet.rewritten(replacements).evaluate(node.name, sample.rows, sample.columns).value;
    return { visible: investigation.excessOf(node.name, movedTo(check, moved)) > 1, changed: 1 };
  }
  const evaluator = investigation.evaluator.rewritten(replacements);
  const dtype = investigation.observations.dtype(node.name)!;
  const value = rounded(evaluator.under(recipe, node, false), node.name, sample, dtype);
  let changed = 0;
  for (let i = 0; i < value.length; i++) if (shows[i] && value[i] !== expected[i]) changed++;
  if (dtype !== "float32" && changed > clearly * value.length)
    return { visible: true, changed: changed / value.length };
  const visible =
    changed > 0 && !investigation.checkUnder(node.name, recipe, evaluator, sample, undefined, true).matched;
  return { visible, changed: changed / value.length };
}

/** What a unit's statistics would be, had the spec these values and the noise it has. */
function movedTo({ comparison }: UnitCheck, expected: Float64Array): Statistics {
  const { observed, noise } = comparison;
  const z = expected.map((value, i) => {
    if (noise[i] === Infinity || value === observed[i]) return 0;
    return noise[i]! > 0 ? (observed[i]! - value) / noise[i]! : Infinity;
  });
  return statisticsOf({ ...comparison, expected, z });
}

function rounded(evaluator: Evaluator, name: string, { rows, columns }: Sample, dtype: DType): Float64Array {
  const { value } = evaluator.evaluate(name, rows, columns);
  roundAll(value, dtype);
  return value;
}

function baseOf(investigation: Investigation, check: UnitCheck): Base {
  const { recipe, matched, node } = check;
  const { name } = node;
  const sample = thin(investigation, name);
  const dtype = investigation.observations.dtype(name)!;
  if (matched && recipe && check.magnitude.notANumber + check.magnitude.infinite === 0) {
    const expected = rounded(investigation.evaluator.under(recipe, node, false), name, sample, dtype);
    return { check, sample, expected, shows: Array.from(expected, Number.isFinite) };
  }
  const thinly =
    matched && recipe
      ? investigation.checkUnder(name, recipe, investigation.evaluator, sample)
      : investigation.checkNoise(name, investigation.evaluator, sample);
  const { expected, noise } = thinly.comparison;
  const stored = expected.slice();
  roundAll(stored, dtype);
  return { check: thinly, sample, expected: stored, shows: Array.from(noise, Number.isFinite) };
}

/** Layers where a cause seen in others would not have shown, grouped by why. */
export function hiddenLayers(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  hypothesis: Hypothesis,
  seen: ReadonlySet<number>,
): { layers: number[]; why: string }[] {
  if (hypothesis.fitted > 0 || investigation.graph.find(hypothesis.site)?.layer === undefined) return [];
  const byReason = new Map<string, number[]>();
  for (let layer = 0; layer < investigation.config.layerCount; layer++) {
    if (seen.has(layer)) continue;
    const why = hiddenAt(investigation, checks, hypothesis, layer);
    if (why) byReason.set(why, [...(byReason.get(why) ?? []), layer]);
  }
  return [...byReason].map(([why, layers]) => ({ layers, why }));
}

function hiddenAt(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  hypothesis: Hypothesis,
  layer: number,
): string | undefined {
  const { graph } = investigation;
  const site = graph.inLayer(graph.node(hypothesis.site), layer);
  if (!site) return undefined;
  const units = checks.filter(({ node }) => investigation.interior(node.name).includes(site));
  if (units.length === 0 || units.every(({ node }) => investigation.isDeep(node.name)))
    return "not recorded finely enough";
  const same = propose({ investigation, site, finding: units[0]! }, new Set([hypothesis.cause])).find(
    (h) => h.group === hypothesis.group && h.site === site.name,
  );
  if (!same) return undefined;
  const quiet = investigation.quiet;
  let allZero = true;
  let inRange = false;
  for (const check of units) {
    const base = baseOf(investigation, check);
    if (!check.magnitude.zeros) allZero = false;
    if (effect(investigation, base, same.replacements, quiet).visible) return undefined;
    if (check.statistics.checked > 0) inRange = true;
  }
  if (allZero) return "everything recorded there is zero";
  return inRange
    ? "its effect is drowned there, below the rounding of values so much larger"
    : "the values there leave the range of their types: nothing recorded can show it";
}

function thin(investigation: Investigation, name: string): Sample {
  const { rows, columns } = investigation.sample(name);
  const step = Math.max(1, Math.floor(rows.length / 5));
  const { heads, columns: width } = investigation.graph.node(name);
  // A head of attention costs the same for one of its channels as for all.
  const perHead = heads ? width / heads : 1;
  const few = columns.filter((column) => !heads || Math.floor(column / perHead) % Math.ceil(heads / 4) === 0);
  const stride = Math.max(1, Math.floor(few.length / 48));
  return {
    rows: rows.filter((_, r) => r % step === 0 || r === rows.length - 1),
    columns: few.filter((_, c) => c % stride === 0),
  };
}

/** The most that the rewrites of one cause at one kind of site would do to its unit. */
export interface Strongest {
  readonly cause: CauseId;
  readonly where: string;
  readonly changed: number;
  readonly unit: string;
  readonly visible: boolean;
}

/** A cause that a recording could not have shown somewhere. */
export interface NotVisible {
  readonly cause: CauseId;
  readonly why: string;
}

/** By cause and role, the rewrite of it that does most to a unit. */
export type Effects = ReadonlyMap<string, Strongest>;

/** For each kind of unit one in a layer of the middle: on these is tried what would have shown. */
export function witnesses(investigation: Investigation, checks: readonly UnitCheck[]): UnitCheck[] {
  const byRole = new Map<string, UnitCheck[]>();
  for (const check of checks) {
    if (check.excess > 1 || investigation.isDeep(check.node.name)) continue;
    const key = roleOf(check.node);
    byRole.set(key, [...(byRole.get(key) ?? []), check]);
  }
  return [...byRole.values()].map((candidates) => {
    const alive = candidates.filter(({ magnitude }) => !magnitude.zeros);
    return (alive.length > 0 ? alive : candidates)[Math.floor((alive.length || candidates.length) / 2)]!;
  });
}

/** What every named rewrite would do to a witness. What there is no time for is left out. */
export function effectsOn(investigation: Investigation, check: UnitCheck, deadline: Deadline): Effects {
  const strongest = new Map<string, Strongest>();
  const quiet = investigation.quiet;
  const { name } = check.node;
  const base = baseOf(investigation, check);
  for (const site of investigation.interior(name)) {
    for (const hypothesis of proposeFixed({ investigation, site, finding: base.check })) {
      const key = `${hypothesis.cause} ${roleOf(site)}`;
      // A whole layer more or less is never hidden by rounding.
      if (rewritesLayer(hypothesis)) continue;
      if (strongest.get(key)?.visible || deadline.passed) continue;
      const { visible, changed } = withScratch(() => effect(investigation, base, hypothesis.replacements, quiet));
      const where = roleOf(site);
      keepStronger(strongest, key, { cause: hypothesis.cause, where, changed, unit: roleOf(check.node), visible });
    }
  }
  return strongest;
}

function keepStronger(strongest: Map<string, Strongest>, key: string, found: Strongest): void {
  const before = strongest.get(key);
  if (before?.visible) return;
  if (found.visible || found.changed > (before?.changed ?? -1)) strongest.set(key, found);
}

/**
 * Causes of the catalogue that a passing recording could not have shown: those of which no setting moves any witness
 * beyond rounding.
 */
export function notVisible(effects: readonly Effects[]): NotVisible[] {
  const strongest = new Map<string, Strongest>();
  for (const ofOne of effects) for (const [key, found] of ofOne) keepStronger(strongest, key, found);
  return [...strongest.values()].flatMap(({ cause, where, changed, unit, visible }) => {
    const elsewhere = [...strongest.values()].some(
      (other) => other.visible && other.cause === cause && other.where !== where && other.unit === unit,
    );
    if (visible || elsewhere) return [];
    const why =
      changed === 0
        ? `on this input it changes nothing in ${where}`
        : `on this input it would change ${short(100 * changed)}% of ${unit}, by no more than rounding`;
    return [{ cause, why }];
  });
}
