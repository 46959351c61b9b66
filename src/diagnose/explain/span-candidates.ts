import type { Graph, GraphNode } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import { proposeFine, proposeFixed, proposeNamed } from "../causes/catalogue.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Proposal } from "../causes/proposal.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Deadline } from "./deadline.js";

/** Rewrites that are looked at in one span, those of the nearest ops first. */
const mostCandidates = 8000;

/**
 * In the order of a search: what is written wrongly most often, all other named causes, one number of a list, one fitted, and
 * narrow formats, which change least.
 */
export const spanParts = ["large", "other", "chosen", "fitted", "fine"] as const;
type SpanPart = (typeof spanParts)[number];

/** Named rewrites of a site of which one number is chosen or fitted: asked for once, looked at in two parts of a search. */
export type WithOneNumber = Map<GraphNode, readonly Hypothesis[]>;

/**
 * Rewrites inside a span: each cause in all layers of the span alike, then layer by layer, nearest first, at all sites of a
 * layer that one piece of code computes and at single ones.
 */
export function* candidates(
  investigation: Investigation,
  check: UnitCheck,
  sites: readonly GraphNode[],
  part: SpanPart,
  deadline: Deadline,
  numbered: WithOneNumber,
): Generator<Hypothesis> {
  const { graph } = investigation;
  let count = 0;
  const byLayer = new Map<number | undefined, Hypothesis[]>();
  for (const site of sites) {
    if (deadline.passed || count > mostCandidates) break;
    const proposal = { investigation, site, finding: check };
    const proposed =
      part === "fine"
        ? proposeFine(proposal)
        : part === "chosen" || part === "fitted"
          ? withOneNumber(proposal, numbered).filter(part === "chosen" ? isChosen : isFitted)
          : proposeFixed(proposal, part);
    count += proposed.length;
    byLayer.set(site.layer, [...(byLayer.get(site.layer) ?? []), ...proposed]);
  }
  const kin = ({ site }: Hypothesis) => kinOf(graph, graph.node(site));
  if (byLayer.size > 1) {
    const all = [...byLayer.values()].flat();
    yield* together(all, ({ site }) => roleOf(graph.node(site)));
    yield* together(all, kin);
  }
  for (const proposed of byLayer.values()) {
    yield* together(proposed, kin);
    yield* proposed;
  }
}

function withOneNumber(proposal: Proposal, numbered: WithOneNumber): readonly Hypothesis[] {
  let found = numbered.get(proposal.site);
  if (!found) {
    found = proposeNamed(proposal).filter(({ fitted }) => fitted === 1);
    numbered.set(proposal.site, found);
  }
  return found;
}

/** Whether a rewrite has one number that the record chooses out of a list: a window, how many keys are skipped. */
function isChosen({ fitted, heldOut }: Hypothesis): boolean {
  return fitted === 1 && heldOut === undefined;
}

/** Whether a rewrite has one number that half of the record's columns gave and the other half judges. */
function isFitted({ fitted, heldOut }: Hypothesis): boolean {
  return fitted === 1 && heldOut !== undefined;
}

/** Ops that one piece of code computes: queries and keys of a layer, gate and up, both norms of the stream. */
function kinOf(graph: Graph, { op, heads, inputs }: GraphNode): string {
  return op.kind === "linear" ? roleOf(graph.node(inputs[0]!)) : `${op.kind} ${heads !== undefined}`;
}

/** One cause at all the places it was proposed for that have the same key. */
function* together(proposed: readonly Hypothesis[], keyOf: (hypothesis: Hypothesis) => string): Generator<Hypothesis> {
  const groups = new Map<string, Map<string, Hypothesis>>();
  for (const hypothesis of proposed) {
    const key = `${keyOf(hypothesis)} ${hypothesis.group} ${JSON.stringify(hypothesis.parameters)}`;
    const places = groups.get(key) ?? new Map<string, Hypothesis>();
    if (!places.has(hypothesis.site)) places.set(hypothesis.site, hypothesis);
    groups.set(key, places);
  }
  for (const group of groups.values()) {
    const places = [...group.values()];
    const replacements = places.flatMap((place) => place.replacements);
    const separate = new Set(replacements.map(({ name }) => name)).size === replacements.length;
    if (places.length > 1 && separate) yield { ...places[0]!, replacements, places };
  }
}
