import type { GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import type { Op } from "../../spec/op.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import type { ChangedParameter } from "../../tensor/changed-parameters.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { roundTo } from "../../tensor/dtype.js";
import { choose, type FaultContext, fault, integer, layerPath, streamInto } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { wholeParameter } from "../overlay.js";

import { attributesOf, elementwise, gathered, spoilt, withOp } from "../rewrite.js";

/** As many as key/value heads, or so many that several keep the same. */
const worlds = [2, 6] as const;
const ranksOf = ({ values }: { values: FaultContext["values"] }) => Number(values.ranks);
const sums = ["self_attn.o_proj", "mlp.down_proj"] as const;
const drawnSum = (random: () => number) => ({ sum: choose(random, sums), ranks: choose(random, worlds) });
const drawnRanks = (random: () => number) => ({ ranks: choose(random, worlds) });
const summed = ({ values }: FaultContext, layer: number) => `${layerPath(layer).path}.${values.sum}`;
const termsOf = (context: FaultContext, sum: string) =>
  Array.from({ length: ranksOf(context) }, (_, rank) => `${sum}.partial.${rank}`);

const biasedSums = ({ graph }: FaultContext) => graph.all("output", "attention").map(({ name }) => name);

/** A product that adds a bias before it is stored, as an epilogue does. */
function plusBias(product: Op, bias: Float64Array): Op {
  return {
    ...product,
    evaluate(context, rows, columns) {
      const made = product.evaluate(context, rows, columns);
      return { ...made, value: made.value.map((x, i) => x + bias[columns[i % columns.length]!]!) };
    },
  };
}

/** The sum over some of its terms, in float32. */
function sumOf(context: FaultContext, name: string, counts: (rank: number) => boolean): GraphNode {
  const add = (values: readonly number[]) =>
    values.reduce((so, x, rank) => (counts(rank) ? Math.fround(so + x) : so), 0);
  return withOp(context.graph, name, elementwise(ranksOf(context), add));
}

/** A matrix whose parts along an axis lie in another order. */
function reordered(
  parameters: ParameterReader,
  name: string,
  axis: 0 | 1,
  ranks: number,
  from: (part: number) => number,
): Map<string, ChangedParameter> {
  const { shape, values } = wholeParameter(parameters, name);
  const columns = shape[1]!;
  const each = shape[axis]! / ranks;
  const place = (index: number) => from(Math.floor(index / each)) * each + (index % each);
  const out = values.map((_, i) => {
    const at = [Math.floor(i / columns), i % columns] as [number, number];
    at[axis] = place(at[axis]);
    return values[at[0] * columns + at[1]]!;
  });
  return new Map([[name, { shape, values: out }]]);
}

/** Backwards, or each rank the part of the one after it. */
const orders = (ranks: number, order: unknown) => (part: number) =>
  order === "reversed" ? ranks - 1 - part : (part + 1) % ranks;
const drawnOrder = (random: () => number) => ({
  ...drawnRanks(random),
  order: choose(random, ["reversed", "rotated"]),
});

const columnProducts = ["self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj"] as const;

/** Values that show which key/value heads a rank keeps: seen by one rank, attention over those of the others as well. */
const keyed = ["key", "value", "mixed"] as const;
const keyHeads = (graph: FaultContext["graph"]) => {
  const [first] = graph.all("mixed");
  return attributesOf<AttentionAttributes>(graph, first!.name).keyValueHeads;
};

/** More key/value heads than one, fewer than ranks. */
const replicates = ({ keyValueHeadCount, headCount }: ModelConfig) => keyValueHeadCount > 1 && headCount % 6 === 0;

/** What goes wrong where tensor-parallel ranks meet, in runs of 2 or 6 of them. */
export const rankFaults = [
  fault({
    id: "R01-rank-missing",
    title: "one rank's term missing from a sum over ranks",
    kind: "seam",
    transform: "T11",
    situation: "ranks",
    expected: ["rank-missing"],
    parameters(random) {
      const drawn = drawnSum(random);
      return { ...drawn, rank: integer(random, 0, drawn.ranks - 1) };
    },
    firstBad: (context, layer) => [summed(context, layer)],
    inject: (context, layer) => ({
      nodes: [sumOf(context, summed(context, layer), (rank) => rank !== context.values.rank)],
    }),
  }),
  fault({
    id: "R02-sum-skipped",
    title: "terms not summed over the ranks",
    kind: "seam",
    transform: "T11",
    situation: "ranks",
    // Of two ranks, and as the first one sees it, the other's term is missing; where no term is recorded, that is half of
    // what the product sums.
    expected: ["all-reduce-skipped", "rank-missing", "reduction-incomplete"],
    parameters: drawnSum,
    firstBad: (context, layer) => [summed(context, layer)],
    inject: (context, layer) => ({ nodes: [sumOf(context, summed(context, layer), (rank) => rank === 0)] }),
  }),
  fault({
    id: "R03-residual-on-every-rank",
    title: "the residual added to every rank's term before the sum",
    kind: "seam",
    transform: "T11",
    situation: "ranks",
    expected: ["residual-per-rank"],
    parameters: drawnRanks,
    firstBad: (_, layer) => [`${layerPath(layer).path}.post_attention_layernorm.input`],
    inject(context, layer) {
      const { path, attn } = layerPath(layer);
      const add = ([stream, ...terms]: readonly number[]) =>
        terms.reduce((so, term) => Math.fround(so + roundTo(term + stream!, context.store)), 0);
      const node = context.graph.node(`${path}.post_attention_layernorm.input`);
      const op = elementwise(ranksOf(context) + 1, add);
      return {
        nodes: [{ ...node, op, inputs: [streamInto(layer), ...termsOf(context, `${attn}.o_proj`)] }],
        unrecorded: [`${attn}.o_proj`, attn],
      };
    },
  }),
  fault({
    id: "R04-bias-on-every-rank",
    title: "the bias of a row-parallel product added to every rank's term",
    kind: "seam",
    transform: "T11",
    situation: "ranks",
    expected: ["bias-per-rank"],
    scope: "model",
    applies: ({ outputBias }) => outputBias,
    parameters: drawnRanks,
    // Where the first rank alone adds it is right as well.
    firstBad: (context) => biasedSums(context).flatMap((name) => termsOf(context, name).slice(1)),
    inject(context) {
      const { graph, parameters } = context;
      const nodes = biasedSums(context).flatMap((name) => {
        const bias = parameters.rows(`${name}.bias`, 0, 1);
        const terms = termsOf(context, name).map((term) => withOp(graph, term, plusBias(graph.node(term).op, bias)));
        return [...terms, sumOf(context, name, () => true)];
      });
      return { nodes };
    },
  }),
  fault({
    id: "R05-row-shards-reordered",
    title: "ranks hold each other's columns of a row-parallel weight",
    kind: "parameter",
    transform: "T1",
    situation: "ranks",
    expected: ["shards-in-another-order"],
    parameters: (random) => ({ ...drawnSum(random), ...drawnOrder(random) }),
    firstBad: (context, layer) => termsOf(context, summed(context, layer)),
    inject(context, layer) {
      const ranks = ranksOf(context);
      const { weight } = attributesOf<LinearAttributes>(context.graph, `${summed(context, layer)}.partial.0`);
      return { parameters: reordered(context.parameters, weight, 1, ranks, orders(ranks, context.values.order)) };
    },
  }),
  fault({
    id: "R06-column-shards-reordered",
    title: "ranks hold each other's rows of a column-parallel weight",
    kind: "parameter",
    transform: "T1",
    situation: "ranks",
    expected: ["shards-in-another-order", "heads-permuted"],
    parameters: (random) => ({ ...drawnOrder(random), projection: choose(random, columnProducts) }),
    firstBad: ({ values }, layer) => [`${layerPath(layer).path}.${values.projection}`],
    inject(context, layer) {
      const ranks = ranksOf(context);
      const name = `${layerPath(layer).path}.${context.values.projection}`;
      const { weight, bias } = attributesOf<LinearAttributes>(context.graph, name);
      const from = orders(ranks, context.values.order);
      const parameters = reordered(context.parameters, weight, 0, ranks, from);
      if (!bias) return { parameters };
      const { shape, values } = wholeParameter(context.parameters, bias);
      const each = values.length / ranks;
      const moved = values.map((_, i) => values[from(Math.floor(i / each)) * each + (i % each)]!);
      return { parameters: parameters.set(bias, { shape, values: moved }) };
    },
  }),
  fault({
    id: "R07-key-heads-of-other-rank",
    title: "rank r keeps key/value head r, or r + 1, mod heads",
    kind: "parameter",
    transform: "T3",
    situation: "ranks",
    expected: ["key-heads-of-other-rank"],
    scope: "model",
    applies: replicates,
    hiddenWhen: "one rank's view, where the first rank of every head keeps the right one",
    parameters: (random) => ({ ranks: 6, from: integer(random, 0, 1) }),
    firstBad: ({ graph }) => keyed.flatMap((what) => graph.all(what)).map(({ name }) => name),
    inject({ graph, values }) {
      const kept = (rank: number) => (rank + Number(values.from)) % keyHeads(graph);
      const nodes = graph.all("mixed").map(({ name }) => {
        const a = attributesOf<AttentionAttributes>(graph, name);
        const head = (query: number) => kept(Math.floor((query * 6) / a.heads));
        return withOp(graph, name, handAttention(a, { keyHead: head, valueHead: head }));
      });
      return { nodes, keyPartOf: kept };
    },
  }),
  fault({
    id: "R08-embedding-shard-shifted",
    title: "a rank's rows of the embedding begin a row late",
    kind: "parameter",
    transform: "T3",
    scope: "model",
    situation: "ranks",
    expected: ["vocabulary-shard-shifted"],
    hiddenWhen: "no token of that rank",
    parameters(random) {
      const { ranks } = drawnRanks(random);
      return { ranks, rank: integer(random, 1, ranks - 1) };
    },
    firstBad: ({ values }) => [`model.embed_tokens.partial.${values.rank}`],
    inject(context) {
      const { config, graph, parameters, values } = context;
      const each = Math.ceil(config.vocabularySize / ranksOf(context));
      const rank = Number(values.rank);
      const op = elementwise(1, (_, row, column, table) => {
        const token = table.token[row]!;
        if (Math.floor(token / each) !== rank || token + 1 >= config.vocabularySize) return 0;
        return parameters.rows("model.embed_tokens.weight", token + 1, 1)[column]!;
      });
      return { nodes: spoilt(graph, `model.embed_tokens.partial.${rank}`, op) };
    },
  }),
  fault({
    id: "R09-logits-shard-shifted",
    title: "the ranks after the first hold the head's rows from one too late",
    kind: "parameter",
    transform: "T3",
    scope: "model",
    situation: "ranks",
    expected: ["vocabulary-shard-shifted"],
    parameters: drawnRanks,
    firstBad: () => ["lm_head"],
    inject(context) {
      const { config, graph } = context;
      const each = Math.ceil(config.vocabularySize / ranksOf(context));
      const op = gathered((_, column) => {
        if (column < each) return {};
        return column + 1 < config.vocabularySize ? { column: column + 1 } : undefined;
      });
      return { nodes: spoilt(graph, "lm_head", op) };
    },
  }),
];
