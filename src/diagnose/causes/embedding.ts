import type { Op } from "../../spec/op.js";
import { embedding } from "../../spec/ops/embedding.js";
import { unknownToken } from "../../spec/rows.js";
import { roundTo } from "../../tensor/dtype.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, isRecorded, ofKind, type Proposal, type Search } from "./proposal.js";
import { affine, replaced } from "./transform.js";

/** Which row is embedded, and what becomes of it. */
export const embeddingCauses = {
  "embedding-row-shifted": {
    kind: "parameter",
    transform: "T3",
    legend: "The embedding of a neighbouring token id is looked up.",
    hiddenBy: "never",
    confusedWith: ["rows-shifted", "token-ids-rounded"],
  },
  "token-ids-rounded": {
    kind: "seam",
    transform: "T3",
    legend: "Token ids pass through a float type that does not hold them: other rows are looked up.",
    hiddenBy: "ids that the type holds exactly",
    confusedWith: ["embedding-row-shifted", "embedding-token-wrong"],
    report: ["tenstorrent/tt-xla#3463", "integers went through bfloat16: 19585 became 19584"],
  },
  "token-ids-truncated": {
    kind: "seam",
    transform: "T3",
    legend: "Token ids keep their lowest bits only: other rows are looked up.",
    hiddenBy: "ids that fit",
    confusedWith: ["token-ids-rounded", "embedding-token-wrong"],
  },
  "embedding-scaled": {
    kind: "seam",
    transform: "T6",
    legend: "Embeddings are multiplied by a factor, which this model does not do.",
    hiddenBy: "never",
    confusedWith: ["scaled", "residual-scaled"],
  },
  "embedding-token-wrong": {
    kind: "metadata",
    transform: "T3",
    legend: "Rows hold the embeddings of other tokens than those that were given.",
    hiddenBy: "never",
    confusedWith: ["token-ids-rounded", "rows-shifted"],
    report: ["NVIDIA/Megatron-LM#346", "an index buffer was reused before it was read"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(embeddingCauses);
const isEmbedding = ofKind("embedding");

export const embeddingSearches: readonly Search[] = [
  {
    causes: ["embedding-row-shifted"],
    stage: "named",
    appliesTo: isEmbedding,
    rewrites: (proposal) =>
      [1, -1, 2, -2].map((offset) =>
        hypothesis(
          "embedding-row-shifted",
          proposal.site,
          lookingUp(proposal, { offset }, (t) => t + offset),
          {
            parameters: { offset },
            statement: `the embedding of token id ${offset > 0 ? "+" : "-"} ${Math.abs(offset)} is looked up`,
          },
        ),
      ),
  },
  {
    causes: ["token-ids-rounded"],
    stage: "named",
    appliesTo: isEmbedding,
    rewrites: (proposal) =>
      (
        [
          ["bfloat16", 2 ** 8],
          ["float16", 2 ** 11],
          ["float32", 2 ** 24],
        ] as const
      )
        .filter(([, exactBelow]) => proposal.investigation.config.vocabularySize > exactBelow)
        .map(([dtype, exactBelow]) =>
          hypothesis(
            "token-ids-rounded",
            proposal.site,
            lookingUp(proposal, { dtype }, (t) => roundTo(t, dtype)),
            {
              parameters: { dtype },
              statement: `token ids pass through ${dtype}, which is exact only up to ${exactBelow}: other rows are looked up`,
            },
          ),
        ),
  },
  {
    causes: ["token-ids-truncated"],
    stage: "named",
    appliesTo: isEmbedding,
    rewrites: (proposal) =>
      [8, 16]
        .filter((bits) => proposal.investigation.config.vocabularySize > 2 ** bits)
        .map((bits) =>
          hypothesis(
            "token-ids-truncated",
            proposal.site,
            lookingUp(proposal, { bits }, (t) => t % 2 ** bits),
            {
              parameters: { bits },
              statement: `token ids keep their lowest ${bits} bits: other rows are looked up`,
            },
          ),
        ),
  },
  {
    causes: ["embedding-scaled"],
    stage: "named",
    appliesTo: isEmbedding,
    rewrites({ site, investigation }) {
      const { hiddenSize, layerCount } = investigation.config;
      const factors = new Map([
        [Math.sqrt(hiddenSize), "sqrt(hidden)"],
        [1 / Math.sqrt(hiddenSize), "1/sqrt(hidden)"],
        [1 / hiddenSize, "1/hidden"],
        [1 / Math.sqrt(2 * layerCount), "1/sqrt(2 layers)"],
      ]);
      return [...factors].map(([factor, title]) =>
        hypothesis("embedding-scaled", site, [replaced(site, { op: affine(site.op, { factor }, () => factor) })], {
          parameters: { factor: Number(factor.toPrecision(4)), recognised: title },
          statement: `embeddings are multiplied by ${short(factor)} = ${title}, which this model does not do`,
        }),
      );
    },
  },
  {
    causes: ["embedding-token-wrong"],
    stage: "named",
    appliesTo: (proposal) => isEmbedding(proposal) && isRecorded(proposal),
    rewrites: otherTokens,
  },
];

/** The table read at other rows. */
function lookingUp(
  { site, investigation }: Proposal,
  attributes: Record<string, unknown>,
  tokenOf: (token: number) => number,
) {
  const weight = site.op.attributes.weight as string;
  const isInside = (token: number) => token >= 0 && token < investigation.config.vocabularySize;
  const op: Op = {
    kind: "embedding",
    attributes: { weight, ...attributes },
    evaluate(context, rows, columns) {
      // What a look-up beyond the table returns, nobody knows: no more than for a token nobody recorded.
      const token = context.rows.token.map((t) => (t < 0 || !isInside(tokenOf(t)) ? unknownToken : tokenOf(t)));
      const table = Object.create(context.rows, { token: { value: token } });
      return embedding(weight).evaluate({ ...context, rows: table }, rows, columns);
    },
  };
  return [replaced(site, { op })];
}

/** Most wrong rows that are looked for in the table: beyond, the rule is elsewhere. */
const mostLookups = 16;
const rowsAtOnce = 4096;

/** Rows that hold other tokens' embeddings: which tokens', the table says. */
function otherTokens({ site, finding, investigation }: Proposal): Hypothesis[] {
  const { rows, columns, z, observed } = finding.comparison;
  const width = columns.length;
  const wrong = [...rows.keys()].filter((r) => z.subarray(r * width, (r + 1) * width).some((x) => Math.abs(x) > 8));
  if (wrong.length === 0 || wrong.length > mostLookups) return [];
  const weight = site.op.attributes.weight as string;
  const { parameters, config } = investigation;
  const found = new Map<number, number>();
  for (let first = 0; first < config.vocabularySize && found.size < wrong.length; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, config.vocabularySize - first);
    const values = parameters.rows(weight, first, count);
    for (let token = 0; token < count; token++) {
      for (const r of wrong) {
        const at = token * config.hiddenSize;
        if (!found.has(rows[r]!) && columns.every((column, c) => values[at + column] === observed[r * width + c]))
          found.set(rows[r]!, first + token);
      }
    }
  }
  if (found.size < wrong.length) return [];
  const table = investigation.observations.rows;
  const op: Op = {
    kind: "embedding",
    attributes: { weight, tokens: "others" },
    evaluate(context, asked, wanted) {
      const token = context.rows.token.map((own, row) => found.get(row) ?? own);
      const rewritten = Object.create(context.rows, { token: { value: token } });
      return embedding(weight).evaluate({ ...context, rows: rewritten }, asked, wanted);
    },
  };
  const [row, token] = [...found][0]!;
  return [
    hypothesis("embedding-token-wrong", site, [replaced(site, { op })], {
      fitted: found.size,
      parameters: { tokens: Object.fromEntries([...found].map(([at, used]) => [String(at), used])) },
      statement: `${found.size === 1 ? "a row holds" : `${found.size} rows hold`} the embedding of another token (row ${row}: token ${token}, not ${table.token[row]})`,
      group: "embedding-token-wrong",
    }),
  ];
}
