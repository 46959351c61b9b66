import type { Evaluator } from "../spec/evaluator.js";
import { propose } from "./causes/catalogue.js";
import type { Sample } from "./check/sample.js";
import { type Hypothesis, role, short } from "./hypothesis.js";
import type { Investigation, UnitCheck } from "./investigation.js";

/** What a rewrite would do to a unit that is right: whether it would have shown, and the share of elements it changes. */
function effect(
  investigation: Investigation,
  base: UnitCheck,
  evaluator: Evaluator,
  sample: Sample,
): { visible: boolean; changed: number } {
  const { name } = base.node;
  const moved =
    base.matched && base.recipe
      ? investigation.checkUnder(name, base.recipe, evaluator, sample)
      : investigation.checkNoise(name, evaluator, sample);
  const { expected, noise } = moved.comparison;
  let changed = 0;
  let count = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!Number.isFinite(noise[i]!)) continue;
    count++;
    if (expected[i] !== base.comparison.expected[i]) changed++;
  }
  return { visible: moved.excess > 1, changed: count > 0 ? changed / count : 0 };
}

/** A unit as the spec has it, on few elements. */
function thinly(investigation: Investigation, { node, recipe, matched }: UnitCheck, sample: Sample): UnitCheck {
  return matched && recipe
    ? investigation.checkUnder(node.name, recipe, investigation.evaluator, sample)
    : investigation.checkNoise(node.name, investigation.evaluator, sample);
}

/** Layers where a cause seen in others would not have shown, grouped by why. */
export function hiddenLayers(
  investigation: Investigation,
  hypothesis: Hypothesis,
  seen: ReadonlySet<number>,
): { layers: number[]; why: string }[] {
  if (hypothesis.fitted > 0 || investigation.graph.find(hypothesis.site)?.layer === undefined) return [];
  const byReason = new Map<string, number[]>();
  for (let layer = 0; layer < investigation.config.layerCount; layer++) {
    if (seen.has(layer)) continue;
    const why = hiddenAt(investigation, hypothesis, layer);
    if (why) byReason.set(why, [...(byReason.get(why) ?? []), layer]);
  }
  return [...byReason].map(([why, layers]) => ({ layers, why }));
}

function hiddenAt(investigation: Investigation, hypothesis: Hypothesis, layer: number): string | undefined {
  const { graph } = investigation;
  const site = graph.find(hypothesis.site.replace(/\.layers\.\d+/, `.layers.${layer}`));
  if (!site) return undefined;
  const units = investigation.units().filter((node) => investigation.interior(node.name).includes(site));
  if (units.length === 0 || units.every((node) => investigation.isDeep(node.name))) return "not recorded finely enough";
  const checks = units.map(({ name }) => investigation.check(name));
  const finding = thinly(investigation, checks[0]!, thin(investigation, units[0]!.name));
  const same = propose({ investigation, site, finding }).find(
    (h) => h.group === hypothesis.group && role(h.site) === role(hypothesis.site),
  );
  if (!same) return undefined;
  const evaluator = investigation.evaluator.rewritten(same.replacements);
  let allZero = true;
  let inRange = false;
  for (const check of checks) {
    const sample = thin(investigation, check.node.name);
    const base = thinly(investigation, check, sample);
    if (base.comparison.observed.some((x) => x !== 0)) allZero = false;
    if (effect(investigation, base, evaluator, sample).visible) return undefined;
    if (base.statistics.checked > 0) inRange = true;
  }
  if (allZero) return "everything recorded there is zero";
  return inRange
    ? "its effect is drowned there, below the rounding of values so much larger"
    : "the values there leave the range of their types: nothing recorded can show it";
}

function thin(investigation: Investigation, name: string): Sample {
  const { rows, columns } = investigation.sample(name);
  const step = Math.max(1, Math.floor(rows.length / 6));
  const stride = Math.max(1, Math.floor(columns.length / 64));
  return {
    rows: rows.filter((_, r) => r % step === 0 || r === rows.length - 1),
    columns: columns.filter((_, c) => c % stride === 0),
  };
}

/**
 * Causes of the catalogue that a passing recording could not have shown: for each kind of unit, in one layer of the
 * middle, every named rewrite is tried, and listed when none of its settings moves the unit beyond rounding.
 */
export function sensitivity(
  investigation: Investigation,
  checks: readonly UnitCheck[],
): { cause: string; why: string }[] {
  const strongest = new Map<string, { changed: number; unit: string; visible: boolean }>();
  const middle = new Map<string, UnitCheck[]>();
  for (const check of checks) {
    if (check.excess > 1 || investigation.isDeep(check.node.name)) continue;
    const key = role(check.node.name);
    middle.set(key, [...(middle.get(key) ?? []), check]);
  }
  for (const candidates of middle.values()) {
    const alive = candidates.filter((candidate) => candidate.comparison.observed.some((x) => x !== 0));
    const check = (alive.length > 0 ? alive : candidates)[Math.floor((alive.length || candidates.length) / 2)]!;
    const { name } = check.node;
    const sample = thin(investigation, name);
    const base = thinly(investigation, check, sample);
    for (const site of investigation.interior(name)) {
      for (const hypothesis of propose({ investigation, site, finding: base })) {
        const key = `${hypothesis.cause} ${role(hypothesis.site)}`;
        if (hypothesis.fitted > 0 || strongest.get(key)?.visible) continue;
        const evaluator = investigation.evaluator.rewritten(hypothesis.replacements);
        const { visible, changed } = effect(investigation, base, evaluator, sample);
        const before = strongest.get(key)?.changed ?? -1;
        if (visible || changed > before) strongest.set(key, { changed, unit: role(name), visible });
      }
    }
  }
  const hidden = new Map<string, string>();
  for (const [key, { changed, unit, visible: shown }] of strongest) {
    const cause = key.split(" ")[0]!;
    const elsewhere = [...strongest].some(
      ([other, s]) => s.visible && other.startsWith(`${cause} `) && other !== key && unit === s.unit,
    );
    if (shown || elsewhere) continue;
    const where = key.slice(cause.length + 1);
    const why =
      changed === 0
        ? `on this input it changes nothing in ${where}`
        : `on this input it would change ${short(100 * changed)}% of ${unit}, by no more than rounding`;
    if (!hidden.has(`${cause} ${where}`)) hidden.set(`${cause} ${where}`, why);
  }
  return [...hidden].map(([key, why]) => ({ cause: key.split(" ")[0]!, why }));
}
