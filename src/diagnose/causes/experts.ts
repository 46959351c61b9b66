import type { GraphNode } from "../../spec/graph.js";
import { indices } from "../../spec/op.js";
import { type CombineAttributes, combineExperts } from "../../spec/ops/combine-experts.js";
import { type ExpertLinearAttributes, expertLinear } from "../../spec/ops/expert-linear.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, isRecorded, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** The chosen experts of a mixture: whose matrices, whose weights, and which outputs arrive. */
export const expertCauses = {
  "expert-map-shifted": {
    kind: "seam",
    transform: "T3",
    legend: "Rows meet another expert's matrices: the next one's, or those of another rank.",
    hiddenBy: "never",
    confusedWith: ["weight-swapped", "routing-weights-of-another-row"],
  },
  "tokens-dropped": {
    kind: "kernel",
    transform: "T14",
    legend: "An expert takes only so many tokens, in their order, and the others go without it.",
    hiddenBy: "batches in which no expert is chosen that often",
    confusedWith: ["rows-unwritten", "routing-not-renormalised"],
  },
  "routing-weights-of-another-row": {
    kind: "seam",
    transform: "T3",
    legend: "Experts' outputs are combined with the weights of another token or of another slot.",
    hiddenBy: "rows with equal weights",
    confusedWith: ["routing-order", "expert-map-shifted"],
  },
  "routing-weights-ignored": {
    kind: "kernel",
    transform: "T11",
    legend: "Experts' outputs are summed without their weights, or with their mean.",
    hiddenBy: "one expert per token that has all the weight",
    confusedWith: ["routing-renormalised", "row-gain"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(expertCauses);
const isCombination = ofKind("combine-experts");

export const expertSearches: readonly Search[] = [
  { causes: ["expert-map-shifted"], stage: "large", appliesTo: ofKind("expert-linear"), rewrites: otherExperts },
  {
    causes: ["tokens-dropped"],
    stage: "large",
    appliesTo: (proposal) => isCombination(proposal) && isRecorded(proposal),
    rewrites: capacities,
  },
  { causes: ["routing-weights-of-another-row"], stage: "large", appliesTo: isCombination, rewrites: otherWeights },
  {
    causes: ["routing-weights-ignored"],
    stage: "large",
    appliesTo: isCombination,
    rewrites({ site }) {
      const a = site.op.attributes as unknown as CombineAttributes;
      const of = (weight: number, statement: string) =>
        hypothesis(
          "routing-weights-ignored",
          site,
          [replaced(site, { op: combineExperts({ ...a, weightOf: () => weight }) })],
          { parameters: { weight }, statement },
        );
      return [
        of(1, "the outputs of the chosen experts are summed without their weights"),
        of(1 / a.topK, "the outputs of the chosen experts are averaged"),
      ];
    },
  },
];

/** Ranks that experts are usually shared out over. */
const ranks = [2, 4, 8, 16, 32, 64];

/** Another expert's matrices in all products of the layer, or in one. */
function otherExperts({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const products = (["gate", "up", "output"] as const).flatMap(
    (what) => graph.at({ what, block: "experts", layer: site.layer }) ?? [],
  );
  const count = graph.at({ what: "router", layer: site.layer })!.columns;
  const maps: [name: string, map: (expert: number) => number, statement: string][] = [
    ["+1", (e) => (e + 1) % count, "of the next expert"],
    ["-1", (e) => (e + count - 1) % count, "of the expert before"],
  ];
  for (const n of ranks) {
    if (count % n !== 0 || count === n) continue;
    const size = count / n;
    maps.push([`+${size}`, (e) => (e + size) % count, `of the next of ${n} ranks`]);
    if (n > 2) maps.push([`-${size}`, (e) => (e + count - size) % count, `of the rank before, of ${n}`]);
    maps.push([`mod ${size}`, (e) => e % size, `of the first of ${n} ranks, whatever rank the expert lies on`]);
    maps.push([
      `interleaved ${n}`,
      (e) => (e % n) * size + Math.floor(e / n),
      `of a placement that deals experts out over ${n} ranks`,
    ]);
  }
  return maps.flatMap(([name, expertOf, whose]) => {
    const shifted = (node: GraphNode) =>
      replaced(node, { op: expertLinear({ ...(node.op.attributes as unknown as ExpertLinearAttributes), expertOf }) });
    const parameters = { map: name };
    return [
      hypothesis("expert-map-shifted", site, products.map(shifted), {
        parameters,
        statement: `rows meet the matrices ${whose}`,
      }),
      hypothesis("expert-map-shifted", site, [shifted(site)], {
        parameters: { ...parameters, product: site.site.what },
        statement: `in the ${site.site.what} product alone rows meet the matrices ${whose}`,
      }),
    ];
  });
}

/** The experts that each row of a step chose, in the step's order. */
function choicesOf({ site, investigation }: Proposal, stepIndex: number) {
  const { evaluator, observations } = investigation;
  const { topK } = site.op.attributes as unknown as CombineAttributes;
  const rows = observations.rows.rowsOf(stepIndex);
  const { value } = evaluator.read(site.inputs[2]!, rows, site.name);
  return { rows, topK, chosen: value };
}

/** Place of each pair of row and slot among those that chose the same expert. */
function ranksOf(chosen: Float64Array, topK: number, bySlot: boolean): Int32Array {
  const taken = new Map<number, number>();
  const rank = new Int32Array(chosen.length);
  const rows = chosen.length / topK;
  for (let n = 0; n < chosen.length; n++) {
    const pair = bySlot ? (n % rows) * topK + Math.floor(n / rows) : n;
    const before = taken.get(chosen[pair]!) ?? 0;
    rank[pair] = before;
    taken.set(chosen[pair]!, before + 1);
  }
  return rank;
}

/** An expert's capacity: more than every place of a row that is right, no more than the last place of one that is wrong. */
function capacities(proposal: Proposal): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  const table = investigation.observations.rows;
  const { rows, columns, z } = finding.comparison;
  const wrong = new Set<number>();
  rows.forEach((row, r) => {
    for (let c = 0; c < columns.length; c++) if (Math.abs(z[r * columns.length + c]!) > clearly) wrong.add(row);
  });
  const orders = [false, true].flatMap((bySlot) => {
    let fewest = 0;
    let most = Infinity;
    const ranks = new Map<number, { first: number; topK: number; rank: Int32Array }>();
    for (const stepIndex of new Set(Array.from(rows, (row) => table.stepOf[row]!))) {
      const { rows: all, topK, chosen } = choicesOf(proposal, stepIndex);
      ranks.set(stepIndex, { first: all[0]!, topK, rank: ranksOf(chosen, topK, bySlot) });
    }
    const rankOf = (row: number, slot: number) => {
      const { first, topK, rank } = ranks.get(table.stepOf[row]!)!;
      return rank[(row - first) * topK + slot]!;
    };
    const { topK } = site.op.attributes as unknown as CombineAttributes;
    for (const row of rows) {
      const last = Math.max(...Array.from({ length: topK }, (_, slot) => rankOf(row, slot)));
      if (wrong.has(row)) most = Math.min(most, last);
      else fewest = Math.max(fewest, last + 1);
    }
    return fewest > most || most === Infinity ? [] : [{ bySlot, capacity: most, rankOf, topK }];
  });
  return orders.map(({ bySlot, capacity, rankOf, topK }) => {
    const weightOf = (weight: number, row: number, slot: number) => (rankOf(row, slot) < capacity ? weight : 0);
    return hypothesis("tokens-dropped", site, [replaced(site, { op: combineExperts({ topK, weightOf }) })], {
      parameters: { capacity, order: bySlot ? "slot by slot" : "token by token" },
      statement: `every expert takes ${capacity} tokens, ${bySlot ? "slot by slot" : "token by token"}, and drops the others`,
      group: `tokens-dropped ${capacity}`,
    });
  });
}

/** |z| from which an element is surely wrong. */
const clearly = 8;

/** Weights of the neighbouring token, of the other slots, or in the order in which rows were sorted by expert. */
function otherWeights(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const table = investigation.observations.rows;
  const { topK } = site.op.attributes as unknown as CombineAttributes;
  const from = (name: string, statement: string, weightFrom: NonNullable<CombineAttributes["weightFrom"]>) =>
    hypothesis("routing-weights-of-another-row", site, [replaced(site, { op: combineExperts({ topK, weightFrom }) })], {
      parameters: { from: name },
      statement: `experts' outputs are combined with the weights ${statement}`,
    });
  const shifted = (by: number) => (row: number, slot: number) => {
    const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
    return [firstRow + ((row - firstRow + by + rowCount) % rowCount), slot] as const;
  };
  const sorted = new Map<number, Int32Array>();
  const unsorted = (row: number, slot: number) => {
    const stepIndex = table.stepOf[row]!;
    const { firstRow } = table.steps[stepIndex]!;
    let place = sorted.get(stepIndex);
    if (!place) {
      const { chosen } = choicesOf(proposal, stepIndex);
      const order = indices(chosen.length).sort((a, b) => chosen[a]! - chosen[b]! || a - b);
      place = new Int32Array(order.length);
      for (let n = 0; n < order.length; n++) place[order[n]!] = n;
      sorted.set(stepIndex, place);
    }
    const at = place[(row - firstRow) * topK + slot]!;
    return [firstRow + Math.floor(at / topK), at % topK] as const;
  };
  return [
    from("next token", "of the next token", shifted(1)),
    from("token before", "of the token before", shifted(-1)),
    from("first token", "of the step's first token", (row, slot) => [table.steps[table.stepOf[row]!]!.firstRow, slot]),
    from("slots reversed", "of the other slots, last for first", (row, slot) => [row, topK - 1 - slot]),
    from("sorted rows", "in token order while the rows are sorted by expert", unsorted),
  ];
}
