import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { stretchOf } from "../../spec/ranks.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { amongRanks, type Term, termOf, unrecordedTerms } from "./rank-terms.js";
import { relabelled, replaced } from "./transform.js";
import { worldOf } from "./world.js";

/** Parts that are another rank's. */
export const rankShardCauses = {
  "shards-in-another-order": {
    kind: "parameter",
    transform: "T1",
    legend: "The ranks' parts of a weight are loaded, or those of a value gathered, in another order.",
    hiddenBy: "one rank",
    confusedWith: ["columns-permuted", "vocabulary-permuted", "heads-permuted"],
  },
  "key-heads-of-other-rank": {
    kind: "parameter",
    transform: "T3",
    legend: "With fewer key/value heads than ranks, a rank keeps one that its query heads do not belong to.",
    hiddenBy: "as many key/value heads as ranks, or one",
    confusedWith: ["gqa-tiled", "replica-differs"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(rankShardCauses);

export const rankShardSearches: readonly Search[] = [
  {
    causes: ["shards-in-another-order"],
    stage: "large",
    appliesTo: amongRanks("all-reduce"),
    rewrites: reorderedTerms,
  },
  { causes: ["shards-in-another-order"], stage: "large", appliesTo: amongRanks("linear"), rewrites: shardsOfProduct },
  {
    causes: ["key-heads-of-other-rank"],
    stage: "large",
    appliesTo: amongRanks("attention"),
    rewrites: keyHeadsByRemainder,
  },
];

/** Parts of a term's weight, or of a product's columns, that are another rank's. */
function shardsOfProduct(proposal: Proposal): Hypothesis[] {
  const term = termOf(proposal);
  return term ? termOfOtherShard(proposal, term) : reorderedShards(proposal);
}

/** A rank multiplies its part of the inputs by another rank's part of the weight. */
function termOfOtherShard({ site, investigation }: Proposal, { rank, of }: Term): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  if (site.op.kind !== "linear" || !a.terms) return [];
  const inputs = investigation.graph.node(site.inputs[0]!).columns;
  return Array.from({ length: of }, (_, other) => other).flatMap((other) => {
    const { first, count } = stretchOf(inputs, other, of);
    if (other === rank || count !== a.terms!.count) return [];
    const op = linear({ ...a, terms: { ...a.terms!, w: first } });
    return [
      hypothesis("shards-in-another-order", site, [replaced(site, { op })], {
        parameters: { [`rank ${rank}`]: other },
        statement: `rank ${rank} multiplies by the shard of ${a.weight} that belongs to rank ${other}`,
        group: "shards-in-another-order",
      }),
    ];
  });
}

/** The ranks' parts of the weight in another order, where no term was recorded. */
function reorderedTerms(proposal: Proposal): Hypothesis[] {
  const terms = unrecordedTerms(proposal);
  const [first] = terms ?? [];
  if (!terms || !first?.a.terms || terms.some(({ a }) => a.terms?.count !== first.a.terms!.count)) return [];
  return orders(terms.length).map(({ title, order }) =>
    hypothesis(
      "shards-in-another-order",
      proposal.site,
      terms.map(({ term, a }, rank) =>
        replaced(term, { op: linear({ ...a, terms: { ...a.terms!, w: terms[order[rank]!]!.a.terms!.w } }) }),
      ),
      {
        parameters: { order },
        statement: `the ranks hold the shards of ${first.a.weight} ${title}: ${order.join(" ")}`,
        group: "shards-in-another-order",
      },
    ),
  );
}

/** Orders in which people mistake ranks: backwards, from another one on, two exchanged. */
export function orders(of: number): { title: string; order: readonly number[] }[] {
  const ranks = Array.from({ length: of }, (_, rank) => rank);
  const out = [{ title: "in reverse", order: ranks.toReversed() }];
  for (let by = 1; by < of && of > 2; by++)
    out.push({ title: `rotated by ${by}`, order: ranks.map((rank) => (rank + by) % of) });
  for (const a of ranks)
    for (const b of ranks.slice(a + 1))
      if (of > 2)
        out.push({ title: `${a} and ${b} exchanged`, order: ranks.map((r) => (r === a ? b : r === b ? a : r)) });
  const seen = new Set<string>();
  return out.filter(({ order }) => !seen.has(order.join()) && seen.add(order.join()));
}

/** The ranks' parts of a product's columns in another order: loaded so, or gathered so. */
function reorderedShards({ site, investigation }: Proposal): Hypothesis[] {
  const of = Math.min(worldOf(investigation), site.heads ?? Infinity);
  if (of < 2 || site.columns % of !== 0) return [];
  const width = site.columns / of;
  return orders(of).map(({ title, order }) =>
    hypothesis(
      "shards-in-another-order",
      site,
      [
        replaced(site, {
          op: relabelled(site.op, { order }, (row, column) => [
            row,
            order[Math.floor(column / width)]! * width + (column % width),
          ]),
        }),
      ],
      {
        parameters: { order },
        statement: `the shards of ${of} ranks come ${title}: parts ${order.join(" ")} stand where 0 to ${of - 1} belong`,
      },
    ),
  );
}

/** With fewer key/value heads than ranks, rank r keeps head r mod heads: its queries belong to another. */
function keyHeadsByRemainder({ site, investigation }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as AttentionAttributes;
  const world = worldOf(investigation);
  if (a.keyValueHeads >= world || a.keyValueHeads < 2 || a.heads % world !== 0) return [];
  const headOf = (head: number) => Math.floor((head * world) / a.heads) % a.keyValueHeads;
  return [
    hypothesis(
      "key-heads-of-other-rank",
      site,
      [replaced(site, { op: attention({ ...a, keyHeadOf: headOf, valueHeadOf: headOf }) })],
      {
        parameters: { ranks: world },
        statement: `rank r keeps key/value head r mod ${a.keyValueHeads}, not the one that its query heads belong to`,
      },
    ),
  ];
}
