import type { Evaluator } from "../spec/evaluator.js";
import type { GraphNode } from "../spec/graph.js";
import { propose } from "./causes/catalogue.js";
import { regionOf } from "./extent.js";
import { type Hypothesis, role } from "./hypothesis.js";
import type { Investigation, UnitCheck } from "./investigation.js";
import { excess, limits } from "./limits.js";
import type { Sample } from "./sample.js";
import { type Comparison, type Statistics, statisticsOf } from "./statistics.js";
import { either } from "./transform.js";

/** A hypothesis that explains a failing unit to within rounding. */
export interface Explanation {
  readonly hypothesis: Hypothesis;
  /** Over the held-out elements when something was fitted, else over the whole sample. */
  readonly statistics: Statistics;
  readonly excess: number;
}

/** A failing unit with everything that explains it, best first. */
export interface ExplainedFinding {
  readonly check: UnitCheck;
  readonly explanations: readonly Explanation[];
}

const probeLimits = { rows: 8, columns: 64 };
/** A probe this far beyond the limits rules a hypothesis out. */
const probeTolerance = 3;
/** Searches of one role that may find nothing: what no rewrite explained in two layers, none explains in the others. */
const maxFailures = 2;
/** Sites tried per unit, nearest first: beyond this a unit's interior is too large to guess in. */
const maxSites = 12;

/** Explains failing units one after the other, trying first what explained the same role in an earlier layer. */
export class Explainer {
  readonly #byRole = new Map<string, readonly string[]>();
  readonly #failures = new Map<string, number>();

  constructor(readonly investigation: Investigation) {}

  explain(check: UnitCheck): ExplainedFinding {
    const known = this.#byRole.get(role(check.node.name));
    const survivors = (known && this.#try(check, (h) => known.includes(roleKey(h)))) || [];
    const explanations = survivors.length > 0 ? survivors : this.#explainFresh(check);
    const own = role(check.node.name);
    if (explanations.length === 0) this.#failures.set(own, (this.#failures.get(own) ?? 0) + 1);
    else
      this.#byRole.set(
        own,
        explanations.map((e) => roleKey(e.hypothesis)),
      );
    return { check, explanations };
  }

  /**
   * Findings explained one by one, then once more by what explained the others: a rewrite may reach several units, and
   * a cause found in recorded layers may sit in unrecorded ones as well.
   */
  explainAll(checks: readonly UnitCheck[], progress: (done: number) => void): ExplainedFinding[] {
    const explained = checks.map((check, i) => {
      progress(i / checks.length);
      return this.explain(check);
    });
    const shared = new Map<Hypothesis, Set<string>>();
    for (const { explanations } of explained) {
      for (const { hypothesis } of explanations)
        shared.set(hypothesis, new Set(hypothesis.replacements.map((node) => node.name)));
    }
    return explained.map((finding) => {
      const interior = this.investigation.interior(finding.check.node.name);
      const added: Explanation[] = [];
      for (const [hypothesis, touched] of shared) {
        if (finding.explanations.some((own) => own.hypothesis.group === hypothesis.group)) continue;
        if (hypothesis.fitted > 1 || !interior.some((node) => touched.has(node.name))) continue;
        const explanation = this.judge(finding.check, hypothesis);
        if (explanation) added.push(explanation);
      }
      return added.length > 0 ? { ...finding, explanations: [...finding.explanations, ...added] } : finding;
    });
  }

  #explainFresh(check: UnitCheck): Explanation[] {
    if ((this.#failures.get(role(check.node.name)) ?? 0) >= maxFailures) return [];
    const single = this.#try(check, () => true);
    if (single.length > 0) return single;
    const parts = this.#tryParts(check);
    return parts.length > 0 ? parts : this.#tryPairs(check);
  }

  #sites(check: UnitCheck): readonly GraphNode[] {
    const { investigation } = this;
    const interior = investigation.interior(check.node.name);
    const near = investigation.isDeep(check.node.name)
      ? interior.filter((node) => node.layer === check.node.layer)
      : interior;
    return near.slice(0, maxSites);
  }

  #try(check: UnitCheck, wanted: (hypothesis: Hypothesis) => boolean): Explanation[] {
    const out: Explanation[] = [];
    for (const site of this.#sites(check)) {
      for (const hypothesis of propose({ investigation: this.investigation, site, finding: check })) {
        if (!wanted(hypothesis)) continue;
        const explanation = this.judge(check, hypothesis);
        if (explanation) out.push(explanation);
      }
    }
    return rank(out);
  }

  /** The explanation a hypothesis gives, or undefined when it does not explain. */
  judge(
    check: UnitCheck,
    hypothesis: Hypothesis,
    base: Evaluator = this.investigation.evaluator,
  ): Explanation | undefined {
    const { investigation } = this;
    const name = check.node.name;
    const evaluator = base.rewritten(hypothesis.replacements);
    if (hypothesis.fitted === 0) {
      const probe = investigation.check(name, evaluator, probeSample(check));
      if (probe.excess > probeTolerance) return undefined;
    }
    const whole = investigation.check(name, evaluator);
    const statistics = hypothesis.heldOut
      ? statisticsOf(subset(whole.comparison, hypothesis.heldOut))
      : whole.statistics;
    const beyond = Math.max(excess(statistics, investigation.unitClass(name)), hypothesis.fitted ? 0 : whole.excess);
    // An explanation must say something: half of what was checkable stays checkable.
    const informative = statistics.checked * 2 >= check.statistics.checked * (hypothesis.heldOut ? 0.4 : 1);
    return beyond <= 1 && informative ? { hypothesis, statistics, excess: beyond } : undefined;
  }

  /** Named rewrites that hold in the wrong rows or columns only, the spec holding in the others. */
  #tryParts(check: UnitCheck): Explanation[] {
    const region = regionOf(check.comparison, check.node);
    if (!region || region.whole) return [];
    const extent = { ...(region.rows && { rows: region.rows }), ...(region.columns && { columns: region.columns }) };
    const where = [region.rows && `rows ${region.rows}`, region.columns && `columns ${region.columns}`]
      .filter(Boolean)
      .join(", ");
    const out: Explanation[] = [];
    for (const hypothesis of propose({ investigation: this.investigation, site: check.node, finding: check })) {
      if (hypothesis.fitted > 1) continue;
      const own = hypothesis.replacements.find((node) => node.name === check.node.name);
      if (!own) continue;
      const asMeant: GraphNode = { ...check.node, name: `${check.node.name}.as_meant` };
      const rewritten: GraphNode = { ...own, name: `${check.node.name}.rewritten` };
      const chosen: GraphNode = {
        ...check.node,
        op: either(check.node.op, region.contains),
        inputs: [asMeant.name, rewritten.name],
      };
      const part: Hypothesis = {
        ...hypothesis,
        replacements: [...hypothesis.replacements.filter((node) => node !== own), asMeant, rewritten, chosen],
        parameters: { ...hypothesis.parameters, ...extent },
        statement: `in ${where}: ${hypothesis.statement}`,
        fitted: hypothesis.fitted + 1,
      };
      const explanation = this.judge(check, part);
      if (explanation) out.push(explanation);
    }
    return rank(out);
  }

  /** Two causes at once: the most promising named rewrites, each with every other rewrite on top. */
  #tryPairs(check: UnitCheck): Explanation[] {
    const { investigation } = this;
    if (investigation.isDeep(check.node.name)) return [];
    const probe = probeSample(check);
    const before = investigation.check(check.node.name, investigation.evaluator, probe).statistics.rmsZ;
    const promising: { hypothesis: Hypothesis; rmsZ: number }[] = [];
    for (const site of this.#sites(check)) {
      for (const hypothesis of propose({ investigation, site, finding: check })) {
        if (hypothesis.fitted > 0) continue;
        const { rmsZ } = investigation.check(
          check.node.name,
          investigation.evaluator.rewritten(hypothesis.replacements),
          probe,
        ).statistics;
        if (rmsZ < 0.7 * before) promising.push({ hypothesis, rmsZ });
      }
    }
    promising.sort((a, b) => a.rmsZ - b.rmsZ);
    const out: Explanation[] = [];
    for (const { hypothesis: first } of promising.slice(0, 4)) out.push(...this.#second(check, first));
    return rank(out);
  }

  #second(check: UnitCheck, first: Hypothesis): Explanation[] {
    const { investigation } = this;
    const evaluator = investigation.evaluator.rewritten(first.replacements);
    const rewritten = investigation.withSpec(evaluator);
    const remaining = investigation.check(check.node.name, evaluator);
    const out: Explanation[] = [];
    for (const { name } of this.#sites(check)) {
      const site = evaluator.graph.node(name);
      for (const second of propose({
        investigation: rewritten,
        site,
        finding: { ...remaining, node: evaluator.graph.node(check.node.name) },
      })) {
        if (second.site === first.site && second.fitted === 0) continue;
        const explanation = this.judge(check, { ...second, replacements: second.replacements }, evaluator);
        if (!explanation) continue;
        const replacements = [
          ...first.replacements.filter((a) => !second.replacements.some((b) => b.name === a.name)),
          ...second.replacements,
        ];
        out.push({ ...explanation, hypothesis: { ...second, replacements, also: first } });
      }
    }
    return out;
  }
}

/** What a hypothesis is, whatever the layer: tried first where the same role fails again. */
function roleKey(h: Hypothesis): string {
  return `${role(h.site)} ${h.group.replace(/\.layers\.\d+/g, ".layers.*").replace(/ \d+$/, "")}`;
}

/** A small sample with the worst rows in it. */
function probeSample({ comparison }: UnitCheck): Sample {
  const { rows, columns, z } = comparison;
  const worst = [...rows.keys()]
    .map((r) => {
      let most = 0;
      for (let c = 0; c < columns.length; c++) most = Math.max(most, Math.abs(z[r * columns.length + c]!));
      return { r, most };
    })
    .sort((a, b) => b.most - a.most);
  const chosen = new Set(worst.slice(0, probeLimits.rows / 2).map(({ r }) => rows[r]!));
  const step = Math.max(1, Math.floor(rows.length / (probeLimits.rows / 2)));
  for (let r = 0; r < rows.length && chosen.size < probeLimits.rows; r += step) chosen.add(rows[r]!);
  const stride = Math.max(1, Math.floor(columns.length / probeLimits.columns));
  return { rows: Int32Array.from(chosen).sort(), columns: columns.filter((_, c) => c % stride === 0) };
}

/** The elements of a comparison that `include` keeps; the others count as unchecked. */
function subset(comparison: Comparison, include: (row: number, column: number) => boolean): Comparison {
  const width = comparison.columns.length;
  const noise = comparison.noise.map((sigma, i) => (include(Math.floor(i / width), i % width) ? sigma : Infinity));
  return { ...comparison, noise, z: comparison.z.map((z, i) => (noise[i] === Infinity ? 0 : z)) };
}

/**
 * Best first: what was named before what was fitted, fewer numbers before more, then the smaller remainder. Fitted
 * explanations are dropped beside named ones, and clearly worse fits beside better ones of the same rank.
 */
function rank(explanations: readonly Explanation[]): Explanation[] {
  const cost = ({ hypothesis }: Explanation) => (hypothesis.also ? 1000 : 0) + Math.min(hypothesis.fitted, 3);
  const sorted = [...explanations].sort((a, b) => cost(a) - cost(b) || a.statistics.rmsZ - b.statistics.rmsZ);
  const best = sorted[0];
  if (!best) return [];
  const margin = 1.25 * best.statistics.rmsZ + 0.05 * limits.rmsZ;
  return sorted.filter((e) => cost(e) === cost(best) && e.statistics.rmsZ <= margin);
}
