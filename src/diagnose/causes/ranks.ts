import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { add } from "../../spec/ops/add.js";
import { type AllReduceAttributes, allReduce } from "../../spec/ops/all-reduce.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { attention } from "../../spec/ops/attention.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { stretchOf } from "../../spec/ranks.js";
import type { Investigation } from "../check/investigation.js";
import { differingReplicas } from "../check/rank-views.js";
import type { Hypothesis } from "./hypothesis.js";
import { linearCauses } from "./linear.js";
import { type CauseFamily, hypothesis, type Proposal } from "./proposal.js";
import { relabelled, replaced } from "./transform.js";
import { shiftedParts, shiftedRows } from "./vocabulary-shards.js";
import { worldOf } from "./world.js";

/** Where ranks meet: sums over them, what each adds to one, and the parts they hold. */
export const rankCauses: CauseFamily = (proposal) => {
  const { site, investigation } = proposal;
  if (worldOf(investigation) < 2) return [];
  const term = termOf(proposal);
  if (term)
    return [...termWithBias(proposal, term), ...termOfOtherShard(proposal, term), ...shiftedRows(proposal, term.rank)];
  switch (site.op.kind) {
    case "all-reduce":
      return [
        ...missingTerms(proposal),
        ...biasOfSum(proposal),
        ...reorderedTerms(proposal),
        ...asOneProduct(proposal),
      ];
    case "linear":
      return [...reorderedShards(proposal), ...shiftedParts(proposal)];
    case "embedding":
      return shiftedParts(proposal);
    case "add":
      return residualPerRank(proposal);
    case "attention":
      return keyHeadsByRemainder(proposal);
    default:
      return [];
  }
};

/** A term of a sum over ranks: the sum, and whose term it is. */
interface Term {
  readonly sum: GraphNode;
  readonly rank: number;
  readonly of: number;
}

function termOf({ site, investigation }: Proposal): Term | undefined {
  const { graph } = investigation;
  const sum = graph
    .consumers(site.name)
    .map((name) => graph.node(name))
    .find(({ op }) => op.kind === "all-reduce");
  return sum && { sum, rank: sum.inputs.indexOf(site.name), of: sum.inputs.length };
}

/** One rank's term is left out, or all but one: the sum was never taken. */
function missingTerms({ site, investigation }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as AllReduceAttributes;
  const ranks = a.weights.map((_, rank) => rank);
  const without = (missing: readonly number[]) => {
    const weights = a.weights.map((weight, rank) => (missing.includes(rank) ? 0 : weight));
    return [replaced(site, { op: allReduce({ ...a, weights }) })];
  };
  const [record] = investigation.observations.denseRecords(site.name);
  const own = record?.record.rank ?? 0;
  const differs = differingReplicas(investigation).some(({ name }) => name === site.name);
  const skipped = differs || ranks.length > 2;
  const out = ranks
    // Of two ranks the other one's term is missing from a sum that was never taken, too: then the copies differ.
    .filter((rank) => !(differs && ranks.length === 2 && rank !== own))
    .map((rank) =>
      hypothesis("rank-missing", site, without([rank]), {
        kind: "seam",
        transform: "T11",
        parameters: { rank },
        statement: `the term of rank ${rank} is missing from the sum over ${ranks.length} ranks`,
      }),
    );
  if (skipped)
    out.push(
      hypothesis("all-reduce-skipped", site, without(ranks.filter((rank) => rank !== own)), {
        kind: "seam",
        transform: "T11",
        statement: "the terms are not summed over the ranks: each goes on with its own",
      }),
    );
  return out;
}

/** The bias comes with every rank's term. */
function termWithBias({ site, investigation }: Proposal, { sum, rank, of }: Term): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  const bias = biasOf(investigation, sum);
  if (site.op.kind !== "linear" || !bias || a.bias) return [];
  return [
    biasPerRank(
      site,
      linear({ ...a, bias }),
      `rank ${rank} adds the bias ${bias} to its term, so that the sum holds it ${of} times`,
    ),
  ];
}

/** Every rank's term of a sum whose terms were not recorded; undefined where they were. */
function unrecordedTerms({ site, investigation }: Proposal): { term: GraphNode; a: LinearAttributes }[] | undefined {
  const { graph, observations } = investigation;
  if (site.inputs.some((name) => observations.has(name) || graph.node(name).op.kind !== "linear")) return undefined;
  return site.inputs.map((name) => {
    const term = graph.node(name);
    return { term, a: term.op.attributes as unknown as LinearAttributes };
  });
}

/** The sum lacks its bias since every rank's term has it; where no term was recorded, both at once. */
function biasOfSum(proposal: Proposal): Hypothesis[] {
  const { site } = proposal;
  const { bias, ...sum } = site.op.attributes as unknown as AllReduceAttributes;
  if (!bias) return [];
  const terms = unrecordedTerms(proposal) ?? [];
  const statement = `the bias ${bias} is not added to the sum but to each rank's term`;
  const rewritten = terms.map(({ term, a }) => replaced(term, { op: linear({ ...a, bias }) }));
  return [biasPerRank(site, allReduce(sum), statement, rewritten)];
}

/** What may be wrong with the whole product, where no term of it was recorded. */
function asOneProduct(proposal: Proposal): Hypothesis[] {
  const { site } = proposal;
  const [first] = unrecordedTerms(proposal) ?? [];
  if (!first) return [];
  const bias = (site.op.attributes as Partial<AllReduceAttributes>).bias ?? first.a.bias;
  const whole = { ...site, op: linear({ ...first.a, terms: undefined, bias }), inputs: first.term.inputs };
  return linearCauses({ ...proposal, site: whole }).filter(({ cause }) => cause !== "reduction-incomplete");
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
        kind: "parameter",
        transform: "T1",
        parameters: { order },
        statement: `the ranks hold the shards of ${first.a.weight} ${title}: ${order.join(" ")}`,
        group: "shards-in-another-order",
      },
    ),
  );
}

function biasPerRank(site: GraphNode, op: Op, statement: string, terms: readonly GraphNode[] = []): Hypothesis {
  const description = { kind: "seam" as const, transform: "T11", statement, group: "bias-per-rank" };
  return hypothesis("bias-per-rank", site, [...terms, replaced(site, { op })], description);
}

/** The bias of a sum over ranks, wherever it is added. */
function biasOf({ graph }: Investigation, sum: GraphNode): string | undefined {
  const first = graph.node(sum.inputs[0]!);
  const { bias } = sum.op.attributes as Partial<AllReduceAttributes>;
  return bias ?? (first.op.attributes as Partial<LinearAttributes>).bias;
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
        kind: "parameter",
        transform: "T1",
        parameters: { [`rank ${rank}`]: other },
        statement: `rank ${rank} multiplies by the shard of ${a.weight} that belongs to rank ${other}`,
        group: "shards-in-another-order",
      }),
    ];
  });
}

/** Orders in which people mistake ranks: backwards, from another one on, two exchanged. */
function orders(of: number): { title: string; order: readonly number[] }[] {
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
        kind: "parameter",
        transform: "T1",
        parameters: { order },
        statement: `the shards of ${of} ranks come ${title}: parts ${order.join(" ")} stand where 0 to ${of - 1} belong`,
      },
    ),
  );
}

/** Every rank adds the residual to its term before the sum. */
function residualPerRank({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const [stream, branch] = site.inputs as [string, string];
  let source = graph.node(branch);
  while (source.op.kind === "identity") source = graph.node(source.inputs[0]!);
  const world = worldOf(investigation);
  const description = {
    kind: "seam" as const,
    transform: "T11",
    parameters: { ranks: world },
    statement: `every rank adds the residual before the sum over ranks, which then holds it ${world} times`,
    group: `residual-per-rank`,
  };
  if (source.op.kind !== "all-reduce" || (source.op.attributes as Partial<AllReduceAttributes>).bias)
    return [hypothesis("residual-per-rank", site, [replaced(site, { op: add([world, 1]) })], description)];
  const inside = source.inputs.map(
    (term, rank): GraphNode => ({ ...site, name: `${site.name}.of rank ${rank}`, inputs: [stream, term] }),
  );
  const sum = { ...site, op: source.op, inputs: inside.map(({ name }) => name) };
  return [hypothesis("residual-per-rank", site, [...inside, sum], description)];
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
        kind: "parameter",
        transform: "T3",
        parameters: { ranks: world },
        statement: `rank r keeps key/value head r mod ${a.keyValueHeads}, not the one that its query heads belong to`,
      },
    ),
  ];
}
