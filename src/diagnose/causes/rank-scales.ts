import type { GraphNode } from "../../spec/graph.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import { stretchOf } from "../../spec/ranks.js";
import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { orders } from "./rank-shards.js";
import { amongRanks, inEveryTerm, termOf, unrecordedTerms } from "./rank-terms.js";
import { readingWeight, type WrongReading } from "./read-weight.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";
import { worldOf } from "./world.js";

/** Scales that belong to another rank's part of a quantised weight. */
export const rankScaleCauses = {
  "weight-scale-of-other-rank": {
    kind: "parameter",
    transform: "T3",
    legend: "A rank multiplies its part of a quantised weight by the scales of another rank's part.",
    hiddenBy: "a scale per tensor; along the cut axis, a scale for all of it",
    confusedWith: ["weight-scale-shifted", "shards-in-another-order", "column-gain"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(rankScaleCauses);

export const rankScaleSearches: readonly Search[] = [
  {
    causes: ["weight-scale-of-other-rank"],
    stage: "large",
    appliesTo: amongRanks("linear"),
    rewrites: (proposal) => (termOf(proposal) ? ofTerm(proposal) : ofColumns(proposal)),
  },
  {
    causes: ["weight-scale-of-other-rank"],
    stage: "large",
    appliesTo: amongRanks("all-reduce"),
    rewrites: ofHiddenTerms,
  },
];

/** Which part's scales each part takes, beside orders of ranks: all those of the first, which nobody cut. */
function mistakes(of: number): { title: string; order: readonly number[] }[] {
  const uncut = { title: "of the first part on every rank", order: Array.from({ length: of }, () => 0) };
  return [
    uncut,
    ...orders(of).map(({ title, order }) => ({ title: `of the parts ${title}: ${order.join(" ")}`, order })),
  ];
}

/** The weight of a product, where scales differ along its inputs or outputs; undefined where they cannot be mixed up. */
function scaled({ investigation }: Proposal, { op }: GraphNode, axis: 0 | 1): QuantisedParameter | undefined {
  const { weight } = op.attributes;
  const parameter = typeof weight === "string" ? investigation.parameters.quantised?.(weight) : undefined;
  if (!parameter?.rescaled || !parameter.tile) return undefined;
  const shared = axis === 0 ? parameter.tile.rows : parameter.tile.columns;
  return shared < parameter.shape[axis]! ? parameter : undefined;
}

/** Where an element's scale lies if part p of an axis takes the scales of part order[p]. */
function movedAlong(size: number, of: number, order: readonly number[]): (index: number) => number {
  const each = stretchOf(size, 0, of).count;
  return (index) => {
    const part = Math.floor(index / each);
    return Math.min(size - 1, index + (order[part]! - part) * each);
  };
}

/** Scales alone, and zero points with them. */
function readings(axis: 0 | 1, from: (index: number) => number): WrongReading[] {
  const place = axis === 0 ? { row: from } : { column: from };
  return [false, true].map((zeros) => (right) => right.rescaled!({ ...place, zeros }));
}

/** One rank's term. */
function ofTerm(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const { rank, of } = termOf(proposal)!;
  const a = site.op.attributes as unknown as LinearAttributes;
  const parameter = scaled(proposal, site, 1);
  if (!parameter || !a.terms) return [];
  const others = Array.from({ length: of }, (_, other) => other).filter((other) => other !== rank);
  return others.flatMap((other) => {
    const order = Array.from({ length: of }, (_, part) => (part === rank ? other : part));
    const statement = `rank ${rank} multiplies its part of ${a.weight} by the scales of rank ${other}'s part`;
    return readings(1, movedAlong(parameter.shape[1]!, of, order)).map((change) =>
      hypothesis(
        "weight-scale-of-other-rank",
        site,
        [replaced(site, { op: readingWeight(site.op, a.weight, statement, change, storeType(investigation)) })],
        { parameters: { [`rank ${rank}`]: other }, statement, group: "weight-scale-of-other-rank" },
      ),
    );
  });
}

/** All terms at once, where none was recorded. */
function ofHiddenTerms(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const terms = unrecordedTerms(proposal) ?? [];
  const [first] = terms;
  const parameter = first && scaled(proposal, first.term, 1);
  if (!parameter) return [];
  return mistakes(terms.length).flatMap(({ title, order }) => {
    const statement = `the ranks multiply their parts of ${first.a.weight} by the scales ${title}`;
    return readings(1, movedAlong(parameter.shape[1]!, terms.length, order)).map((change) =>
      hypothesis(
        "weight-scale-of-other-rank",
        site,
        inEveryTerm(proposal)(({ op }) => ({
          op: readingWeight(op, first.a.weight, statement, change, storeType(investigation)),
        })),
        { parameters: { order }, statement, group: "weight-scale-of-other-rank" },
      ),
    );
  });
}

/** The ranks' parts of a product's columns. */
function ofColumns(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const of = Math.min(worldOf(investigation), site.heads ?? Infinity);
  const parameter = scaled(proposal, site, 0);
  if (!parameter || of < 2 || site.columns % of !== 0) return [];
  const { weight } = site.op.attributes as unknown as LinearAttributes;
  return mistakes(of).flatMap(({ title, order }) => {
    const statement = `the ranks multiply their rows of ${weight} by the scales ${title}`;
    return readings(0, movedAlong(site.columns, of, order)).map((change) =>
      hypothesis(
        "weight-scale-of-other-rank",
        site,
        [replaced(site, { op: readingWeight(site.op, weight, statement, change, storeType(investigation)) })],
        { parameters: { order }, statement, group: "weight-scale-of-other-rank" },
      ),
    );
  });
}
