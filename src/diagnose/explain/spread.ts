import type { GraphNode } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import { propose } from "../causes/catalogue.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { AssembledCause } from "./assemble.js";
import { combine } from "./combine.js";

/**
 * Explains units that span unrecorded layers by the causes found in recorded ones: the same rewrite in every layer in
 * between. Returns, per cause that spreads, the hypotheses to add and the units they explain.
 */
export function spreadCauses(
  investigation: Investigation,
  unexplained: readonly UnitCheck[],
  causes: readonly AssembledCause[],
): Map<AssembledCause, { hypotheses: Hypothesis[]; checks: UnitCheck[] }> {
  const out = new Map<AssembledCause, { hypotheses: Hypothesis[]; checks: UnitCheck[] }>();
  const candidates = causes.filter(({ hypotheses }) =>
    hypotheses.some((h) => h.fitted <= 1 && investigation.graph.find(h.site)?.layer !== undefined),
  );
  const left = new Set(unexplained);
  for (const chosen of subsets(candidates)) {
    if (left.size === 0) break;
    const added = new Map(chosen.map((cause) => [cause, inUnrecorded(investigation, [...left], cause)]));
    const all = [...added.values()].flat();
    if (all.length === 0) continue;
    // One evaluator for all units: what they share between them is computed once.
    const evaluator = investigation.evaluator.rewritten(
      combine([...chosen.flatMap((cause) => cause.hypotheses), ...all]),
    );
    const explained = [...left].filter((check) => investigation.checkRewritten(check.node.name, evaluator).excess <= 1);
    if (explained.length === 0) continue;
    for (const check of explained) left.delete(check);
    for (const [cause, hypotheses] of added) out.set(cause, { hypotheses, checks: explained });
  }
  return out;
}

/** Each cause alone, then all together. */
function subsets(causes: readonly AssembledCause[]): AssembledCause[][] {
  return [...causes.map((cause) => [cause]), ...(causes.length > 1 ? [[...causes]] : [])];
}

/** The cause's rewrite at every site of its role among the units' unrecorded nodes. */
function inUnrecorded(investigation: Investigation, checks: readonly UnitCheck[], cause: AssembledCause): Hypothesis[] {
  const roles = new Set(cause.hypotheses.map((h) => roleOf(investigation.graph.node(h.site))));
  const seen = new Set(cause.hypotheses.map((h) => h.site));
  const out: Hypothesis[] = [];
  for (const finding of checks) {
    for (const site of investigation.interior(finding.node.name)) {
      if (!roles.has(roleOf(site)) || seen.has(site.name)) continue;
      seen.add(site.name);
      const same = propose({ investigation, site, finding }, new Set([cause.cause.cause])).find(
        (h) => h.group === cause.group,
      );
      out.push(...(same ? [same] : scaledLike(investigation, cause, site)));
    }
  }
  return out;
}

/** A fitted factor carries over to other layers as it is. */
function scaledLike({ graph }: Investigation, cause: AssembledCause, site: GraphNode): Hypothesis[] {
  const model = cause.hypotheses.find((h) => h.fitted === 1 && roleOf(graph.node(h.site)) === roleOf(site));
  const own = model?.replacements.find((node) => node.name === model.site);
  if (!model || !own || model.replacements.length > 1 || !model.transfer) return [];
  return [{ ...model, site: site.name, replacements: [{ ...site, op: model.transfer(site.op) }] }];
}
