import { type Phase, phases } from "../../spec/phase.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import { addCounts, type PhaseCounts } from "../bits/phase-counts.js";
import { short } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { finite } from "../explain/assemble.js";
import type { CoverageSummary, JudgedUnit, PhaseSummary, RecipeSummary, UnitSummary } from "./verdict.js";

export function unchecked(
  investigation: Investigation,
  checks: readonly UnitCheck[],
): { value: string; why: string }[] {
  const out = [...investigation.capture.skipped, ...investigation.observations.unknown];
  for (const { node, statistics } of checks) {
    if (statistics.checked === 0)
      out.push({ value: node.name, why: "beyond the range of its types, or it rests on values nobody recorded" });
    else if (statistics.checked < statistics.total * 0.5) {
      out.push({
        value: node.name,
        why: `${short((100 * (statistics.total - statistics.checked)) / statistics.total)}% of its elements leave the range of its types`,
      });
    }
  }
  const recorded = new Set(checks.map(({ node }) => node.name));
  const never = investigation.graph.all("stream", "mlp").filter(({ name }) => !recorded.has(name));
  if (never.length > 0)
    out.push({
      value: `${never.length} layer outputs`,
      why: "not recorded: checked only as part of the units after them",
    });
  return out;
}

/** Each unit, in execution order. */
export function judgedUnits(checks: readonly UnitCheck[]): JudgedUnit[] {
  return checks.map(({ node, statistics, excess }) => ({
    unit: node.name,
    layer: node.layer ?? null,
    outcome: excess > 1 ? "fails" : statistics.checked === 0 ? "unchecked" : "follows",
    rmsZ: finite(statistics.rmsZ),
    maxZ: finite(statistics.maxZ),
  }));
}

export function summaries(checks: readonly UnitCheck[]): UnitSummary[] {
  const byRole = new Map<string, UnitCheck[]>();
  for (const check of checks) {
    const role = roleOf(check.node);
    byRole.set(role, [...(byRole.get(role) ?? []), check]);
  }
  return [...byRole].map(([unit, group]) => ({
    unit,
    count: group.length,
    rmsZ: Number(
      Math.sqrt(group.reduce((sum, { statistics }) => sum + statistics.rmsZ ** 2, 0) / group.length).toPrecision(4),
    ),
    worstRmsZ: Number(Math.max(...group.map(({ statistics }) => statistics.rmsZ)).toPrecision(4)),
    maxZ: Number(Math.max(...group.map(({ statistics }) => statistics.maxZ)).toPrecision(4)),
    failed: group.filter((check) => check.excess > 1).length,
    equal: equalShare(group),
  }));
}

function equalShare(group: readonly UnitCheck[]): number | null {
  const compared = group.reduce((sum, { bits }) => sum + (bits?.compared ?? 0), 0);
  return compared > 0 ? group.reduce((sum, { bits }) => sum + (bits?.equal ?? 0), 0) / compared : null;
}

/** What every kind of unit was found to round like. */
export function settledRecipes({ book, graph }: Investigation, checks: readonly UnitCheck[]): RecipeSummary[] {
  const byRole = new Map<string, UnitCheck[]>();
  for (const check of checks) {
    const name = roleOf(check.node);
    if (check.bits) byRole.set(name, [...(byRole.get(name) ?? []), check]);
  }
  return [...byRole].flatMap(([unit, group]): RecipeSummary[] => {
    const settled = book.settled.get(unit);
    const { op } = graph.node(group[0]!.node.name);
    const usual = settled?.recipe.ops.get(unit) ?? op.recipes?.[0];
    if (!settled || !usual) return [];
    const right = group.filter(({ matched }) => matched);
    const inPhase = (recipe: UnitRecipe | undefined, phase: Phase) =>
      recipe?.at(phase).ops.get(unit) ?? op.recipes?.[0] ?? usual;
    const counts = group.reduce<PhaseCounts>((sum, { bits }) => addCounts(sum, bits?.phases), {});
    const seen = phases.filter((phase) => counts[phase]);
    const departing = right.filter(({ recipe }) =>
      seen.some((phase) => inPhase(recipe, phase) !== inPhase(settled.recipe, phase)),
    );
    return [
      {
        unit,
        recipe: right.length > 0 ? usual.id : null,
        title: usual.title,
        known: usual.known,
        matched: right.length,
        of: group.length,
        equal: equalShare(group) ?? 0,
        kept: [...settled.recipe.kept, ...settled.recipe.recomputed],
        departing: departing.flatMap(({ node }) => (node.layer === undefined ? [] : [node.layer])),
        phases: seen.map((phase): PhaseSummary => {
          const { id, title, known } = inPhase(settled.recipe, phase);
          const { compared, equal } = counts[phase]!;
          const share = compared > 0 ? equal / compared : 0;
          return { phase, recipe: right.length > 0 ? id : null, title, known, equal: share, compared };
        }),
      },
    ];
  });
}

/** What was looked at of all units together. */
export function coverageOf(checks: readonly UnitCheck[]): CoverageSummary {
  let compared = 0;
  let summed = 0;
  let of = 0;
  for (const { coverage } of checks) {
    const own = Math.min(coverage.compared, coverage.of);
    compared += own;
    summed += Math.max(0, coverage.summed - own);
    of += coverage.of;
  }
  return { compared, summed, of };
}
