import type { GraphNode } from "../../spec/graph.js";
import type { CauseId } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import { nameInLayer } from "../causes/proposal.js";
import { type Extent, extentOf, ranges } from "../check/extent.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Cause } from "./cause.js";
import type { ExplainedFinding } from "./explainer.js";
import type { Explanation } from "./explanation.js";
import { groupCauses } from "./group.js";
import { hiddenLayers } from "./visibility.js";

/** A cause of the verdict with what proves it: rewrites of the spec, and the findings it explains. */
export interface AssembledCause {
  readonly cause: Cause;
  readonly group: string;
  readonly hypotheses: Hypothesis[];
  /** Names of the failing units it explains. */
  readonly explains: Set<string>;
  /** Names of failing units that come out right where the records it is about are not believed. */
  readonly readers?: ReadonlySet<string>;
}

/** Causes from explained findings: one per group, a pair as two, in order of origin. */
export function causesOf(
  investigation: Investigation,
  all: readonly UnitCheck[],
  findings: readonly ExplainedFinding[],
): AssembledCause[] {
  const byGroup = new Map<
    string,
    { hypotheses: Hypothesis[]; checks: UnitCheck[]; explained: Explanation[]; alternatives: Set<CauseId> }
  >();
  for (const { members, alternatives } of groupCauses(findings)) {
    for (const [index, explanation] of members) {
      const { hypothesis } = explanation;
      for (const part of hypothesis.also ? [hypothesis.also, hypothesis] : [hypothesis]) {
        let entry = byGroup.get(part.group);
        if (!entry) {
          entry = { hypotheses: [], checks: [], explained: [], alternatives: new Set(alternatives) };
          byGroup.set(part.group, entry);
        }
        entry.hypotheses.push(...(part.places ?? [part]));
        entry.checks.push(findings[index]!.check);
        entry.explained.push(explanation);
      }
    }
  }
  return [...byGroup].map(([group, entry]) => assemble(investigation, all, group, entry));
}

function assemble(
  investigation: Investigation,
  all: readonly UnitCheck[],
  group: string,
  entry: { hypotheses: Hypothesis[]; checks: UnitCheck[]; explained: Explanation[]; alternatives: Set<CauseId> },
): AssembledCause {
  const { hypotheses, checks, explained, alternatives } = entry;
  const first = hypotheses[0]!;
  const sites = hypotheses.map((h) => investigation.graph.node(h.site));
  const layers = [...new Set(sites.map((site) => site.layer).filter((layer) => layer !== undefined))].sort(
    (a, b) => a - b,
  );
  const hidden = hiddenLayers(investigation, all, first, new Set(layers));
  const rows = investigation.observations.rows;
  const steps = new Set(
    checks.flatMap(({ comparison }) => wrongRows(comparison).map((row) => rows.steps[rows.stepOf[row]!]!.step)),
  );
  const samples = checks.reduce((sum, check) => sum + check.statistics.checked, 0);
  const cause: Cause = {
    cause: first.cause,
    kind: first.kind,
    transform: first.transform,
    layers,
    units: [...new Set(checks.map((check) => check.node.name))],
    steps: [...steps].sort((a, b) => a - b),
    extent: widest(checks),
    parameters: merged(hypotheses),
    statement: located(investigation.graph.node(first.site), first.statement, layers, new Set(sites).size),
    evidence: {
      rmsZ: finite(Math.max(...checks.map((check) => check.statistics.rmsZ))),
      rmsZExplained: finite(Math.max(...explained.map(({ statistics }) => statistics.rmsZ))),
      ...inBits(checks, explained),
      samples,
      runnerUp: [...alternatives][0] ?? null,
    },
    alternatives: [...alternatives],
    ...(alternatives.size > 0 && { separate: separatingCapture(investigation, checks[0]!) }),
    ...(hidden.length > 0 && { notVisible: hidden }),
  };
  return { cause, group, hypotheses, explains: new Set(cause.units) };
}

/** Elements bit for bit as recorded, with the cause and without it; empty where it explains by rounding alone. */
function inBits(checks: readonly UnitCheck[], explained: readonly Explanation[]): Partial<Cause["evidence"]> {
  if (!explained.every(({ matched, bits }) => matched && bits)) return {};
  const sum = (of: (i: number) => number) => explained.reduce((total, _, i) => total + of(i), 0);
  const compared = sum((i) => explained[i]!.bits!.compared);
  const before = sum((i) => checks[i]!.bits?.compared ?? 0);
  const without = sum((i) => checks[i]!.bits?.equal ?? 0);
  return {
    equal: sum((i) => explained[i]!.bits!.equal),
    compared,
    ...(before > 0 && { equalWithout: Number((without / before).toPrecision(4)) }),
  };
}

/** Largest value first; parameters of one site as they are, of several sites by unit. */
function merged(hypotheses: readonly Hypothesis[]): Cause["parameters"] {
  const distinct = new Map(hypotheses.map((h) => [JSON.stringify(h.parameters), h]));
  if (distinct.size === 1) return hypotheses[0]!.parameters;
  const out: Record<string, Cause["parameters"][string]> = {};
  for (const { site, parameters } of distinct.values()) {
    for (const [key, value] of Object.entries(parameters)) out[`${site.split(".").at(-1)}.${key}`] ??= value;
  }
  return out;
}

function located(site: GraphNode, statement: string, layers: readonly number[], places: number): string {
  if (site.layer === undefined) return `${site.name}: ${statement}`;
  const value = nameInLayer(site).replace(/\.input$/, "") || "output";
  if (layers.length > 1) return `${value} of layers ${ranges(layers)}: ${statement}`;
  return places > 1 ? `layer ${site.layer}: ${statement}` : `${value} of layer ${site.layer}: ${statement}`;
}

/** Rows of a check with an element that rounding does not explain. */
export function wrongRows({ z, rows, columns }: UnitCheck["comparison"]): number[] {
  return [...rows].filter((_, r) =>
    z.subarray(r * columns.length, (r + 1) * columns.length).some((x) => Math.abs(x) > 6),
  );
}

function widest(checks: readonly UnitCheck[]): Extent {
  const extents = checks.map((check) => extentOf(check.comparison, check.node));
  return extents.reduce((a, b) => (b.share > a.share ? b : a));
}

/** What to record so that the alternatives part: the unrecorded values inside the unit, or more positions. */
function separatingCapture(investigation: Investigation, check: UnitCheck): string {
  const inside = investigation
    .interior(check.node.name)
    .slice(1)
    .map((node) => node.name);
  if (inside.length > 0) return `record ${inside.slice(0, 3).join(", ")} as well`;
  return `record ${check.node.name} on more tokens (several sequences of different lengths), and its operands as it addresses them (role "input")`;
}

/** A cause that explains units over unrecorded layers as well, once it is written into those too. */
export function extended(
  investigation: Investigation,
  entry: AssembledCause,
  { hypotheses, checks }: { hypotheses: readonly Hypothesis[]; checks: readonly UnitCheck[] },
): AssembledCause {
  const all = [...entry.hypotheses, ...hypotheses];
  const layers = new Set(all.map((h) => investigation.graph.node(h.site).layer).filter((layer) => layer !== undefined));
  const names = checks.map((check) => check.node.name);
  const inside = [...layers].filter((layer) => !entry.cause.layers.includes(layer)).length;
  const cause: Cause = {
    ...entry.cause,
    layers: [...layers].sort((a, b) => a - b),
    units: [...new Set([...entry.cause.units, ...names])],
    statement: `${entry.cause.statement}; the units over ${inside} unrecorded layer${inside > 1 ? "s" : ""} come out right only with it there as well`,
  };
  return { ...entry, cause, hypotheses: all, explains: new Set(cause.units) };
}

/** A cause that metadata, seams or parameters show directly. */
export function directCause(found: readonly DirectCause[]): AssembledCause {
  const first = found[0]!;
  const layers = [
    ...new Set(found.map(({ layer }) => layer).filter((layer) => layer !== undefined && Number.isFinite(layer))),
  ] as number[];
  const cause: Cause = {
    cause: first.cause,
    kind: first.kind,
    transform: first.transform,
    layers: layers.sort((a, b) => a - b),
    units: [...new Set(found.map(({ unit }) => unit))],
    steps: [...new Set(found.map(({ step }) => step))],
    extent: { share: 1, ...(first.rows && { rows: first.rows }) },
    parameters: first.parameters,
    statement: found.length > 1 ? `${first.statement} (and ${found.length - 1} more like it)` : first.statement,
    evidence: {
      rmsZ: null,
      rmsZExplained: null,
      samples: found.reduce((sum, { samples }) => sum + samples, 0),
      runnerUp: null,
    },
    alternatives: [],
  };
  const readers = new Set(found.flatMap(({ readers = [] }) => readers));
  return { cause, group: first.group, hypotheses: [], explains: new Set(), readers };
}

export function finite(x: number): number | null {
  return Number.isFinite(x) ? Number(x.toPrecision(4)) : null;
}
