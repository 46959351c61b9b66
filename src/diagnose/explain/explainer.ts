import type { GraphNode } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import { type CauseId, propose, proposeFitted } from "../causes/catalogue.js";
import { type Hypothesis, rewritesLayer } from "../causes/hypothesis.js";
import { either } from "../causes/transform.js";
import { regionOf } from "../check/extent.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { Consistency } from "./consistency.js";
import { Deadline } from "./deadline.js";
import type { Explanation } from "./explanation.js";
import { Judge } from "./judge.js";
import type { NearestCause } from "./nearest-causes.js";
import { explainByPairs, explainOnTop } from "./pairs.js";
import { rank } from "./rank.js";
import { searchSpan } from "./span-search.js";

/** A unit that the spec does not give, with everything that explains it, best first. */
export interface ExplainedFinding {
  readonly check: UnitCheck;
  readonly explanations: readonly Explanation[];
  /** What came nearest, where nothing explains it. */
  readonly nearest: readonly NearestCause[];
}

/** Searches of one role that may find nothing: what no rewrite explained in two layers, none explains in the others. */
const maxFailures = 2;
/** Time for all units together, for one, and for its search of pairs, in milliseconds. */
const wholeSearch = 30_000;
const unitSearch = 12_000;
const pairSearch = 6_000;
/** The same for one over many layers once a cause is known: it most likely sits in those as well, and is tried there later. */
const spreadSearch = 2_000;
/** The same for units within rounding: most of them are a kernel nobody has described yet, not a fault. */
const wholeQuietSearch = 5_000;
const unitQuietSearch = 2_000;

/** Explains units one after the other, trying first what explained the same role in an earlier layer. */
export class Explainer {
  readonly #judge: Judge;
  readonly #consistency: Consistency;
  readonly #byRole = new Map<string, readonly Explanation[]>();
  /** What gave all bits of a unit, by the kind of its op: one cause often sits in several products of a layer. */
  readonly #byKind = new Map<string, Map<string, CauseId>>();
  /** Everything found so far that is no fit to one unit alone. */
  readonly #found: Hypothesis[] = [];
  readonly #failures = new Map<string, number>();
  readonly #deadline: Deadline;
  #quietDeadline: Deadline | undefined;

  constructor(readonly investigation: Investigation) {
    this.#judge = new Judge(investigation);
    this.#consistency = new Consistency(investigation);
    this.#deadline = new Deadline(wholeSearch);
  }

  explain(check: UnitCheck): ExplainedFinding {
    const deadline = this.#deadlineFor(check);
    const own = roleOf(check.node);
    let explanations = this.#tryKnown(check, deadline);
    if (explanations.length === 0) explanations = this.#tryShared(check);
    if (explanations.length === 0)
      explanations = this.#consistency.filter(check.node.name, this.#explainFresh(check, deadline));
    if (explanations.length === 0) this.#failures.set(own, (this.#failures.get(own) ?? 0) + 1);
    else {
      this.#byRole.set(own, explanations);
      const { kind } = check.node.op;
      const groups = this.#byKind.get(kind) ?? new Map<string, CauseId>();
      for (const { matched, hypothesis } of explanations)
        if (matched && hypothesis.fitted === 0) groups.set(hypothesis.group, hypothesis.cause);
      this.#byKind.set(kind, groups);
      this.#found.push(...explanations.map(({ hypothesis }) => hypothesis).filter(({ fitted }) => fitted <= 1));
    }
    return { check, explanations, nearest: explanations.length === 0 ? this.#judge.nearestOf(check) : [] };
  }

  #deadlineFor(check: UnitCheck): Deadline {
    const known = this.#found.length > 0 && this.investigation.isDeep(check.node.name);
    if (check.excess > 1) return new Deadline(known ? spreadSearch : unitSearch, this.#deadline);
    // Its siblings are given back bit for bit: something is different here, however small.
    if (this.#givesBits(check)) return new Deadline(unitSearch, this.#deadline);
    this.#quietDeadline ??= new Deadline(wholeQuietSearch, this.#deadline);
    return new Deadline(unitQuietSearch, this.#quietDeadline);
  }

  /** What explained another unit and reaches into this one. */
  #tryShared(check: UnitCheck): Explanation[] {
    const interior = new Set(this.investigation.interior(check.node.name).map(({ name }) => name));
    const bits = this.investigation.hasBits(check.node.name);
    return this.#found
      .filter(({ replacements }) => replacements.some(({ name }) => interior.has(name)))
      .map((hypothesis) => this.#judge.judge(check, hypothesis))
      .filter((explanation) => explanation !== undefined)
      .filter(({ matched }) => matched || !bits);
  }

  /** What explained the role in another layer, or gave all bits of the same kind of op elsewhere. */
  #tryKnown(check: UnitCheck, deadline: Deadline): Explanation[] {
    const ofRole = this.#byRole.get(roleOf(check.node));
    if (ofRole) {
      const keys = new Set(ofRole.map(({ hypothesis }) => this.#roleKey(hypothesis)));
      const causes = new Set(ofRole.map(({ hypothesis }) => hypothesis.cause));
      const found = this.#try(check, deadline, (site) =>
        this.#proposed(check, site, causes).filter((h) => keys.has(this.#roleKey(h))),
      );
      if (found.length > 0) return found;
    }
    const groups = this.#byKind.get(check.node.op.kind);
    if (!groups || groups.size === 0) return [];
    const causes = new Set(groups.values());
    const found = this.#try(check, deadline, (site) =>
      this.#proposed(check, site, causes).filter((h) => h.fitted === 0 && groups.has(h.group)),
    );
    return found.filter(({ matched }) => matched);
  }

  /**
   * Units explained one by one, then once more by what explained the others: a rewrite may reach several units, and a
   * cause found in recorded layers may sit in unrecorded ones as well.
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
      const inside: Hypothesis[] = [];
      for (const [hypothesis, touched] of shared) {
        if (finding.explanations.some((own) => own.hypothesis.group === hypothesis.group)) continue;
        if (hypothesis.fitted > 1 || !interior.some((node) => touched.has(node.name))) continue;
        const explanation = this.#judge.judge(finding.check, hypothesis);
        if (explanation) added.push(explanation);
        else if (finding.explanations.length === 0) inside.push(hypothesis);
      }
      const more = added.length > 0 ? added : this.#onTop(finding.check, inside);
      return more.length > 0 ? { ...finding, explanations: [...finding.explanations, ...more] } : finding;
    });
  }

  /** Another cause beside one that other units say is there. */
  #onTop(check: UnitCheck, known: readonly Hypothesis[]): Explanation[] {
    for (const hypothesis of known) {
      const deadline = new Deadline(pairSearch, this.#deadline);
      const found = explainOnTop(
        this.#judge,
        check,
        this.investigation.interior(check.node.name),
        hypothesis,
        deadline,
      );
      if (found.length > 0) return found;
    }
    return [];
  }

  #explainFresh(check: UnitCheck, deadline: Deadline): Explanation[] {
    if ((this.#failures.get(roleOf(check.node)) ?? 0) >= maxFailures) return [];
    const single = this.investigation.hasBits(check.node.name)
      ? this.#try(check, deadline, (site) => this.#proposed(check, site))
      : this.#trySpanning(check, deadline);
    // A unit within rounding is no finding: only one rewrite that gives all its bits makes it one.
    if (check.excess <= 1) return single;
    if (single.length > 0) {
      if (single.some(({ matched }) => matched) || !this.#givesBits(check)) return single;
      // The unit's siblings are given back bit for bit, so a cause that is only within rounding may be half of the truth.
      const both = explainByPairs(
        this.#judge,
        check,
        this.investigation.interior(check.node.name),
        new Deadline(pairSearch, deadline),
      );
      return both.some(({ matched }) => matched) ? both : single;
    }
    const parts = this.#tryParts(check, deadline);
    if (parts.length > 0 || !this.investigation.hasBits(check.node.name)) return parts;
    return explainByPairs(
      this.#judge,
      check,
      this.investigation.interior(check.node.name),
      new Deadline(pairSearch, deadline),
    );
  }

  #givesBits({ node }: UnitCheck): boolean {
    if (!this.investigation.hasBits(node.name)) return false;
    return this.investigation.book.settled.get(roleOf(node))?.score.matched === true;
  }

  #proposed(check: UnitCheck, site: GraphNode, causes?: ReadonlySet<CauseId>): Hypothesis[] {
    return propose({ investigation: this.investigation, site, finding: check }, causes);
  }

  /** A unit over many ops: named causes, and within a layer transforms of its record with one number at most. */
  #trySpanning(check: UnitCheck, deadline: Deadline): Explanation[] {
    const sites = this.investigation.interior(check.node.name);
    const named = searchSpan(this.#judge, check, sites, deadline);
    if (named.length > 0 || this.investigation.isDeep(check.node.name)) return named;
    return this.#try(check, deadline, (site) =>
      proposeFitted({ investigation: this.investigation, site, finding: check }).filter(({ fitted }) => fitted <= 1),
    );
  }

  #try(check: UnitCheck, deadline: Deadline, proposed: (site: GraphNode) => readonly Hypothesis[]): Explanation[] {
    const out: Explanation[] = [];
    for (const site of this.investigation.interior(check.node.name)) {
      for (const hypothesis of proposed(site)) {
        if (check.excess <= 1 && hypothesis.fitted > 1) continue;
        // A whole layer written anew says no more than a change of one op that gives all bits.
        if (rewritesLayer(hypothesis) && out.some(({ matched }) => matched)) continue;
        const explanation = this.#judge.judge(check, hypothesis);
        if (explanation) out.push(explanation);
        if (deadline.passed) return rank(out);
      }
    }
    return rank(out);
  }

  /** Named rewrites that hold in the wrong rows or columns only, the spec holding in the others. */
  #tryParts(check: UnitCheck, deadline: Deadline): Explanation[] {
    const region = regionOf(check.comparison, check.node);
    if (!region || region.whole) return [];
    const extent = { ...(region.rows && { rows: region.rows }), ...(region.columns && { columns: region.columns }) };
    const where = [region.rows && `rows ${region.rows}`, region.columns && `columns ${region.columns}`]
      .filter(Boolean)
      .join(", ");
    const out: Explanation[] = [];
    for (const hypothesis of propose({ investigation: this.investigation, site: check.node, finding: check })) {
      if (deadline.passed) break;
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
      const explanation = this.#judge.judge(check, part);
      if (explanation) out.push(explanation);
    }
    return rank(out);
  }

  /** What a hypothesis is, whatever the layer: tried first where the same role fails again. */
  #roleKey({ site, group }: Hypothesis): string {
    const { graph } = this.investigation;
    return `${roleOf(graph.node(site))} ${group.replace(/ \d+$/, "")}`;
  }
}
