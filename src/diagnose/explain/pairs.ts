import type { GraphNode } from "../../spec/graph.js";
import { propose } from "../causes/catalogue.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { UnitCheck } from "../check/investigation.js";
import type { Deadline } from "./deadline.js";
import type { Explanation } from "./explanation.js";
import type { Judge } from "./judge.js";
import { rank } from "./rank.js";

/** First causes of a pair that are followed up: those that bring a unit nearest to its record. */
const followed = 8;
const ofEachCause = 2;

/** Two causes at once: the most promising named rewrites, each with every other rewrite on top. */
export function explainByPairs(
  judge: Judge,
  check: UnitCheck,
  sites: readonly GraphNode[],
  deadline: Deadline,
): Explanation[] {
  const { investigation } = judge;
  const nearer: { hypothesis: Hypothesis; ulps: number }[] = [];
  for (const site of sites) {
    for (const hypothesis of propose({ investigation, site, finding: check })) {
      if (deadline.passed) break;
      if (hypothesis.fitted > 0) continue;
      const nearest = judge.probes.nearest(
        check,
        investigation.evaluator.rewritten(hypothesis.replacements),
        hypothesis,
      );
      if (nearest) nearer.push({ hypothesis, ulps: nearest.near.ulps });
    }
  }
  nearer.sort((a, b) => a.ulps - b.ulps);
  const out: Explanation[] = [];
  for (const { hypothesis } of mostPromising(nearer)) {
    if (deadline.passed) break;
    out.push(...secondCauses(judge, check, sites, hypothesis, deadline));
  }
  return rank(distinct(out));
}

/** The nearest ones, few of each cause: neighbouring settings of one would take all places. */
function mostPromising<T extends { hypothesis: Hypothesis }>(nearest: readonly T[]): T[] {
  const taken = new Map<string, number>();
  const chosen = nearest.filter(({ hypothesis: { cause, site } }) => {
    const key = `${cause} ${site}`;
    const count = (taken.get(key) ?? 0) + 1;
    taken.set(key, count);
    return count <= ofEachCause;
  });
  return chosen.slice(0, followed);
}

/** A pair once, whichever of the two was tried first. */
function distinct(explanations: readonly Explanation[]): Explanation[] {
  const seen = new Set<string>();
  return explanations.filter(({ hypothesis: { group, also } }) => {
    const key = [group, also!.group].sort().join(" + ");
    return !seen.has(key) && seen.add(key);
  });
}

/** Causes that explain together with one that is known to be there. */
export function explainOnTop(
  judge: Judge,
  check: UnitCheck,
  sites: readonly GraphNode[],
  known: Hypothesis,
  deadline: Deadline,
): Explanation[] {
  return rank(distinct(secondCauses(judge, check, sites, known, deadline)));
}

function secondCauses(
  judge: Judge,
  check: UnitCheck,
  sites: readonly GraphNode[],
  first: Hypothesis,
  deadline: Deadline,
): Explanation[] {
  const { investigation } = judge;
  const evaluator = investigation.evaluator.rewritten(first.replacements);
  const rewritten = investigation.withSpec(evaluator);
  const remaining = investigation.checkNoise(check.node.name, evaluator);
  const out: Explanation[] = [];
  const onSpec = ({ site, group, cause }: Hypothesis) => {
    const proposal = { investigation, site: investigation.graph.node(site), finding: check };
    return propose(proposal, new Set([cause])).find((same) => same.group === group)?.replacements;
  };
  for (const { name } of sites) {
    const site = evaluator.graph.node(name);
    const finding = remaining.with({ node: evaluator.graph.node(check.node.name) });
    for (const second of propose({ investigation: rewritten, site, finding })) {
      if (deadline.passed) return out;
      // Two settings of one thing are not two causes.
      if (second.cause === first.cause && second.site === first.site) continue;
      if (!evaluator.graph.with(second.replacements).isComputable(check.node.name)) continue;
      const explanation = judge.judge(check, second, evaluator);
      if (!explanation) continue;
      const replacements = [
        ...first.replacements.filter((a) => !second.replacements.some((b) => b.name === a.name)),
        ...second.replacements,
      ];
      out.push({
        ...explanation,
        hypothesis: { ...explanation.hypothesis, replacements, also: first, alone: onSpec(second) ?? [] },
      });
    }
  }
  return out;
}
