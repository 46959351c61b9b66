import { short } from "../../diagnose/causes/hypothesis.js";
import { extentOf } from "../../diagnose/check/extent.js";
import type { Investigation, UnitCheck } from "../../diagnose/check/investigation.js";
import type { JudgedRun } from "../../diagnose/reference/judged-run.js";
import type { GraphNode } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import { extentWords } from "../cause-words.js";
import type { ValueState, ValueView } from "./page-data.js";

/** Every recorded value in order of execution, and what was found out about it. */
export function valueViews(run: JudgedRun): ValueView[] {
  const { investigation } = run;
  const checks = new Map(run.checks.map((check) => [check.node.name, check]));
  const causesOf = new Map<string, number[]>();
  run.verdict.causes.forEach(({ units }, i) => {
    for (const unit of units) causesOf.set(unit, [...(causesOf.get(unit) ?? []), i]);
  });
  for (const { unit, cause } of run.verdict.findings)
    if (cause !== null && !causesOf.get(unit)?.includes(cause))
      causesOf.set(unit, [...(causesOf.get(unit) ?? []), cause]);
  const recorded = [...investigation.graph.nodes.values()].filter(({ name }) => investigation.observations.has(name));
  const views = recorded.map((node) =>
    valueView(investigation, node, checks.get(node.name), causesOf.get(node.name) ?? []),
  );
  // What the host made is no value of the spec: positions, page tables.
  const known = new Set(views.map(({ name }) => name));
  const host = [...causesOf].filter(([name]) => !known.has(name));
  return [...host.map(([name, causes]) => hostView(name, causes, investigation)), ...views];
}

function valueView(
  investigation: Investigation,
  node: GraphNode,
  check: UnitCheck | undefined,
  causes: readonly number[],
): ValueView {
  const wrong = check !== undefined && check.excess > 1;
  const role = roleOf(node);
  const recipe = check?.matched ? (check.recipe?.ops.get(role) ?? node.op.recipes?.[0]) : undefined;
  const usual = investigation.book.settled.get(role)?.recipe.ops.get(role) ?? node.op.recipes?.[0];
  const { largest = 0, zeros = false, notANumber = 0, infinite = 0 } = check?.magnitude ?? {};
  const { site } = node;
  return {
    name: node.name,
    role,
    layer: node.layer ?? null,
    op: node.op.kind,
    state: stateOf(check, causes.length > 0, recipe?.id !== usual?.id),
    causes,
    recipe: recipe?.title ?? (check?.matched ? "nothing is rounded inside it" : null),
    rmsZ: finite(check?.statistics.rmsZ),
    maxZ: finite(check?.statistics.maxZ),
    compared: check?.coverage.compared ?? 0,
    equal: check?.bits && check.bits.compared > 0 ? check.bits.equal / check.bits.compared : null,
    of: check?.coverage.of ?? 0,
    largest,
    holds: notANumber > 0 ? "nan" : infinite > 0 ? "infinite" : zeros ? "zeros" : null,
    stream: node.name === site.name && site.what === "stream" && site.block === "mlp",
    steps: stepsOf(investigation, node.name),
    stepZ: wrong ? stepZ(investigation, check) : null,
    extent: wrong ? extentWords(extentOf(check.comparison, node)) : "",
    meaning: meaningOf(investigation, node.name),
  };
}

function hostView(name: string, causes: readonly number[], investigation: Investigation): ValueView {
  const steps = investigation.capture.steps.flatMap((step, i) => (name in step ? [i] : []));
  const nothing = { layer: null, recipe: null, rmsZ: null, maxZ: null, compared: 0, equal: null, of: 0, largest: 0 };
  return {
    name,
    role: name,
    op: "host",
    state: "seam",
    causes,
    ...nothing,
    holds: null,
    stream: false,
    steps,
    stepZ: null,
    extent: "",
    meaning: [],
  };
}

function stateOf(check: UnitCheck | undefined, accused: boolean, departs: boolean): ValueState {
  if (check && check.excess > 1) return "wrong";
  if (accused) return "seam";
  if (!check) return "read";
  if (check.statistics.checked === 0) return "unchecked";
  if (check.matched) return departs ? "departs" : "recipe";
  return "rounding";
}

function stepsOf({ observations }: Investigation, name: string): number[] {
  const placed = [...observations.denseRecords(name), ...observations.pagedRecords(name)];
  return [...new Set(placed.map(({ stepIndex }) => stepIndex))].sort((a, b) => a - b);
}

/** The largest |z| of a failing unit in each step; null where it was not looked at. */
function stepZ({ observations, capture }: Investigation, { comparison }: UnitCheck): (number | null)[] {
  const { rows, columns, z, noise } = comparison;
  const out = new Array<number | null>(capture.steps.length).fill(null);
  for (let i = 0; i < z.length; i++) {
    if (noise[i] === Infinity) continue;
    const step = observations.rows.stepOf[rows[Math.floor(i / columns.length)]!]!;
    if (step >= 0) out[step] = Math.max(out[step] ?? 0, Math.min(1e300, Math.abs(z[i]!)));
  }
  return out.map((x) => (x === null ? null : Number(x.toPrecision(3))));
}

function finite(x: number | undefined): number | null {
  return x !== undefined && Number.isFinite(x) ? Number(x.toPrecision(4)) : null;
}

const mostOps = 8;

/** "name = op(inputs)", in order of execution, of the unit's own op and the unrecorded ones it rests on. */
function meaningOf(investigation: Investigation, name: string): string[] {
  const interior = investigation.interior(name);
  const shown = interior
    .slice(0, mostOps)
    .map(
      ({ name: value, op, inputs }) => `${value} = ${op.kind}(${[...inputs, ...settingsOf(op.attributes)].join(", ")})`,
    );
  const more = interior.length - shown.length;
  return [...(more > 0 ? [`… ${more} more before`] : []), ...shown.reverse()];
}

/** Parameters and numbers of an op, "weight: model.norm.weight". */
function settingsOf(attributes: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(attributes).flatMap(([name, value]) =>
    typeof value === "string" ? [`${name}: ${value}`] : typeof value === "number" ? [`${name}: ${short(value)}`] : [],
  );
}
