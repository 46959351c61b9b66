import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type EmbeddingAttributes, embedding } from "../../spec/ops/embedding.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";
import { worldOf } from "./world.js";

/** A vocabulary that is cut over ranks. */
export const vocabularyShardCauses = {
  "vocabulary-shard-shifted": {
    kind: "parameter",
    transform: "T3",
    legend: "A rank's rows of the embedding or of the weight of the logits begin some rows late or early.",
    hiddenBy: "tokens of other ranks only",
    confusedWith: ["embedding-row-shifted", "vocabulary-permuted"],
  },
  "vocabulary-range-shifted": {
    kind: "parameter",
    transform: "T3",
    legend: "A rank answers for tokens from another one on than its rows of the embedding begin with.",
    hiddenBy: "tokens away from the bounds of its range",
    confusedWith: ["vocabulary-shard-shifted", "embedding-token-wrong"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(vocabularyShardCauses);

const isCut: Search["appliesTo"] = ({ site, investigation }) =>
  worldOf(investigation) > 1 && ["embedding", "linear"].includes(site.op.kind);

export const vocabularyShardSearches: readonly Search[] = [
  {
    causes: ["vocabulary-shard-shifted", "vocabulary-range-shifted"],
    stage: "large",
    appliesTo: isCut,
    rewrites: (proposal) => (proposal.site.site.what === "term" ? shiftedRows(proposal) : shiftedParts(proposal)),
  },
];

/** A rank's rows of a table, or of the weight that makes its columns, begin some rows late or early. */
function shiftedParts({ site, investigation }: Proposal): Hypothesis[] {
  const of = worldOf(investigation);
  const vocabulary = investigation.config.vocabularySize;
  if (site.op.kind === "linear" && site.columns !== vocabulary) return [];
  const partOf = (index: number) => Math.floor(index / Math.ceil(vocabulary / of));
  const ranks = Array.from({ length: of }, (_, rank) => rank);
  const sets = [...ranks.slice(1).map((rank) => [rank]), ...(of > 2 ? [ranks.slice(1)] : [])];
  return sets.flatMap((set) =>
    [1, -1].map((offset) => {
      const row = (index: number) => (set.includes(partOf(index)) ? index + offset : index);
      const { weight } = site.op.attributes as { weight: string };
      return shifted(site, readingRows(site.op, weight, row), set, offset);
    }),
  );
}

/** The same of one rank's own lookup. */
function shiftedRows({ site, investigation }: Proposal): Hypothesis[] {
  if (site.op.kind !== "embedding") return [];
  const { weight, tokens } = site.op.attributes as unknown as EmbeddingAttributes;
  const [sum] = investigation.graph.consumers(site.name);
  const rank = sum === undefined ? 0 : investigation.graph.node(sum).inputs.indexOf(site.name);
  return [1, -1].flatMap((offset) => [
    shifted(
      site,
      readingRows(site.op, weight, (token) => token + offset),
      [rank],
      offset,
    ),
    hypothesis(
      "vocabulary-range-shifted",
      site,
      [replaced(site, { op: embedding(weight, { ...tokens!, first: tokens!.first + offset }) })],
      {
        parameters: { offset },
        statement: `rank ${rank} answers for tokens from ${tokens!.first + offset} on, not from ${tokens!.first}`,
        group: `vocabulary-range-shifted ${offset}`,
      },
    ),
  ]);
}

function shifted(site: GraphNode, op: Op, ranks: readonly number[], offset: number): Hypothesis {
  const which = `rank${ranks.length > 1 ? "s" : ""} ${ranks.join(", ")}`;
  return hypothesis("vocabulary-shard-shifted", site, [replaced(site, { op })], {
    parameters: { offset },
    statement: `the vocabulary's shard of ${which} begins ${offset > 0 ? "a row late" : "a row early"}`,
    group: `vocabulary-shard-shifted ${offset}`,
  });
}

/** An op that reads other rows of its table; beyond the table lie zeros. */
function readingRows(op: Op, table: string, rowOf: (row: number) => number): Op {
  return {
    ...op,
    evaluate(context, rows, columns) {
      const { parameters } = context;
      const size = parameters.shape(table)?.[0] ?? 0;
      const moved: ParameterReader = {
        shape: (name) => parameters.shape(name),
        names: () => parameters.names(),
        rows(name, first, count) {
          if (name !== table) return parameters.rows(name, first, count);
          const read = Array.from({ length: count }, (_, i) => {
            const row = rowOf(first + i);
            return row >= 0 && row < size ? parameters.rows(name, row, 1) : undefined;
          });
          const width = parameters.shape(table)?.[1] ?? 0;
          return Float64Array.from(read.flatMap((row) => [...(row ?? new Float64Array(width))]));
        },
      };
      return op.evaluate({ ...context, parameters: moved }, rows, columns);
    },
  };
}
