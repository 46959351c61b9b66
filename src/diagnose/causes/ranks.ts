import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { add } from "../../spec/ops/add.js";
import { type AllReduceAttributes, allReduce } from "../../spec/ops/all-reduce.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { Investigation } from "../check/investigation.js";
import { differingReplicas } from "../check/rank-views.js";
import { accumulatorSearches } from "./accumulator.js";
import { bitSearches } from "./bits.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { biasSearches } from "./linear.js";
import { summedOperandSearch } from "./operand-scale.js";
import { packingSearches } from "./packing.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { rankScaleCauses, rankScaleSearches } from "./rank-scales.js";
import { rankShardCauses, rankShardSearches } from "./rank-shards.js";
import { amongRanks, type Term, termOf, unrecordedTerms } from "./rank-terms.js";
import { replaced } from "./transform.js";
import { vocabularyShardCauses, vocabularyShardSearches } from "./vocabulary-shards.js";
import { summedWeightSearch } from "./weight-format.js";
import { weightSearches } from "./weights.js";
import { worldOf } from "./world.js";

/** Where ranks meet: sums over them, what each adds to one, and the parts they hold. */
export const rankCauses = {
  "rank-missing": {
    kind: "seam",
    transform: "T11",
    legend: "A rank's term is missing from a sum over ranks.",
    hiddenBy: "a term of zeros",
    confusedWith: ["reduction-incomplete", "all-reduce-skipped"],
  },
  "all-reduce-skipped": {
    kind: "seam",
    transform: "T11",
    legend: "Terms are not summed over the ranks: each goes on with its own.",
    hiddenBy: "one rank",
    confusedWith: ["rank-missing", "branch-scaled"],
  },
  "residual-per-rank": {
    kind: "seam",
    transform: "T11",
    legend: "Every rank adds the residual before the sum over ranks, which then holds it once for each.",
    hiddenBy: "one rank",
    confusedWith: ["residual-doubled", "residual-scaled"],
    report: ["microsoft/DeepSpeed#2834", "every rank added the residual before the sum over ranks"],
  },
  "bias-per-rank": {
    kind: "seam",
    transform: "T11",
    legend: "Every rank adds the bias to its term of a sum, which then holds it once for each.",
    hiddenBy: "a bias of zeros",
    confusedWith: ["bias-scaled"],
  },
  ...rankShardCauses,
  ...rankScaleCauses,
  ...vocabularyShardCauses,
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(rankCauses);

/** What can only be a term's: asked of nothing else. */
const asTerm = (rewrites: (proposal: Proposal, term: Term) => Hypothesis[]) => (proposal: Proposal) => {
  const term = termOf(proposal);
  return term ? rewrites(proposal, term) : [];
};

/** What may be wrong with a product as a whole. */
const ofProducts = [...biasSearches, ...weightSearches, ...packingSearches, ...bitSearches, ...accumulatorSearches];

export const rankSearches: readonly Search[] = [
  {
    causes: ["rank-missing", "all-reduce-skipped"],
    stage: "large",
    appliesTo: amongRanks("all-reduce"),
    rewrites: missingTerms,
  },
  { causes: ["bias-per-rank"], stage: "large", appliesTo: amongRanks("all-reduce"), rewrites: biasOfSum },
  { causes: ["bias-per-rank"], stage: "large", appliesTo: amongRanks("linear"), rewrites: asTerm(termWithBias) },
  { causes: ["residual-per-rank"], stage: "large", appliesTo: amongRanks("add"), rewrites: residualPerRank },
  ...rankShardSearches,
  ...rankScaleSearches,
  ...vocabularyShardSearches,
  {
    causes: [...new Set(ofProducts.flatMap(({ causes }) => causes))],
    stage: "named",
    appliesTo: amongRanks("all-reduce"),
    rewrites: asOneProduct,
  },
  summedWeightSearch,
  summedOperandSearch,
];

/** Whether a site is a term of a sum over ranks that nobody recorded: a term of zeros has many names, the sum has one. */
export function isHiddenTerm({ site, finding }: Proposal): boolean {
  return site.site.what === "term" && site.name !== finding.node.name;
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
        parameters: { rank },
        statement: `the term of rank ${rank} is missing from the sum over ${ranks.length} ranks`,
      }),
    );
  if (skipped)
    out.push(
      hypothesis("all-reduce-skipped", site, without(ranks.filter((rank) => rank !== own)), {
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
  const product = { ...proposal, site: whole };
  return ofProducts.flatMap((search) => (search.appliesTo(product) ? search.rewrites(product) : []));
}

function biasPerRank(site: GraphNode, op: Op, statement: string, terms: readonly GraphNode[] = []): Hypothesis {
  const description = { statement, group: "bias-per-rank" };
  return hypothesis("bias-per-rank", site, [...terms, replaced(site, { op })], description);
}

/** The bias of a sum over ranks, wherever it is added. */
function biasOf({ graph }: Investigation, sum: GraphNode): string | undefined {
  const first = graph.node(sum.inputs[0]!);
  const { bias } = sum.op.attributes as Partial<AllReduceAttributes>;
  return bias ?? (first.op.attributes as Partial<LinearAttributes>).bias;
}

/** Every rank adds the residual to its term before the sum. */
function residualPerRank({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const [stream, branch] = site.inputs as [string, string];
  let source = graph.node(branch);
  while (source.op.kind === "identity") source = graph.node(source.inputs[0]!);
  const world = worldOf(investigation);
  const description = {
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
