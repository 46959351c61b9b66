import type { Evaluator } from "../spec/evaluator.js";
import { propose } from "./causes/catalogue.js";
import { type Hypothesis, role, short } from "./hypothesis.js";
import type { Investigation, UnitCheck } from "./investigation.js";
import { limits } from "./limits.js";
import type { Sample } from "./sample.js";

/** How far a rewrite would move a unit, in units of its rounding: root mean square and largest. */
function effect(
  investigation: Investigation,
  name: string,
  evaluator: Evaluator,
  sample: Sample,
  base: UnitCheck,
): { rms: number; largest: number } {
  const moved = investigation.check(name, evaluator, sample).comparison;
  let sum = 0;
  let largest = 0;
  let count = 0;
  for (let i = 0; i < moved.expected.length; i++) {
    const sigma = base.comparison.noise[i]!;
    if (!Number.isFinite(sigma)) continue;
    count++;
    const difference = Math.abs(moved.expected[i]! - base.comparison.expected[i]!);
    const z = difference === 0 ? 0 : sigma > 0 ? difference / sigma : Infinity;
    sum += Math.min(z, 1e9) ** 2;
    if (z > largest) largest = z;
  }
  return { rms: count ? Math.sqrt(sum / count) : 0, largest };
}

function visible({ rms, largest }: { rms: number; largest: number }): boolean {
  return rms > limits.rmsZ || largest > limits.maxZ;
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
  const finding = investigation.check(units[0]!.name, investigation.evaluator, thin(investigation, units[0]!.name));
  const same = propose({ investigation, site, finding }).find(
    (h) => h.group === hypothesis.group && role(h.site) === role(hypothesis.site),
  );
  if (!same) return undefined;
  const evaluator = investigation.evaluator.rewritten(same.replacements);
  let allZero = true;
  let inRange = false;
  for (const { name } of units) {
    const sample = thin(investigation, name);
    const base = investigation.check(name, investigation.evaluator, sample);
    if (base.comparison.observed.some((x) => x !== 0)) allZero = false;
    const moved = effect(investigation, name, evaluator, sample, base);
    if (visible(moved)) return undefined;
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
  const strongest = new Map<string, { rms: number; unit: string; visible: boolean }>();
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
    const base = investigation.check(name, investigation.evaluator, sample);
    for (const site of investigation.interior(name)) {
      for (const hypothesis of propose({ investigation, site, finding: base })) {
        const key = `${hypothesis.cause} ${role(hypothesis.site)}`;
        if (hypothesis.fitted > 0 || strongest.get(key)?.visible) continue;
        const moved = effect(
          investigation,
          name,
          investigation.evaluator.rewritten(hypothesis.replacements),
          sample,
          base,
        );
        const before = strongest.get(key)?.rms ?? -1;
        if (visible(moved) || moved.rms > before)
          strongest.set(key, { rms: moved.rms, unit: role(name), visible: visible(moved) });
      }
    }
  }
  const hidden = new Map<string, string>();
  for (const [key, { rms, unit, visible: shown }] of strongest) {
    const cause = key.split(" ")[0]!;
    const elsewhere = [...strongest].some(
      ([other, s]) => s.visible && other.startsWith(`${cause} `) && other !== key && unit === s.unit,
    );
    if (shown || elsewhere) continue;
    const where = key.slice(cause.length + 1);
    const why =
      rms === 0
        ? `on this input it changes nothing in ${where}`
        : `on this input it would change ${unit} by ${short(rms)} of its rounding error`;
    if (!hidden.has(`${cause} ${where}`)) hidden.set(`${cause} ${where}`, why);
  }
  return [...hidden].map(([key, why]) => ({ cause: key.split(" ")[0]!, why }));
}
