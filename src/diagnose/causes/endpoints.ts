import type { Op } from "../../spec/op.js";
import { embedding } from "../../spec/ops/embedding.js";
import { select } from "../../spec/ops/select.js";
import { unknownToken } from "../../spec/rows.js";
import { roundTo } from "../../tensor/dtype.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { type CauseFamily, hypothesis, type Proposal } from "./proposal.js";
import { affine, replaced, transformed } from "./transform.js";

/** Both ends of the model: which row is embedded, which row and what of it becomes logits. */
export const endpointCauses: CauseFamily = (proposal) => {
  const { op } = proposal.site;
  if (op.kind === "embedding") return embeddings(proposal);
  if (op.kind === "select") return gathers(proposal);
  return proposal.site.name === "lm_head" ? logits(proposal) : [];
};

function embeddings(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const weight = site.op.attributes.weight as string;
  const { vocabularySize, hiddenSize, layerCount } = investigation.config;
  const isInside = (token: number) => token >= 0 && token < vocabularySize;
  const lookingUp = (attributes: Record<string, unknown>, tokenOf: (token: number) => number): Op => ({
    kind: "embedding",
    attributes: { weight, ...attributes },
    evaluate(context, rows, columns) {
      // What a look-up beyond the table returns, nobody knows: no more than for a token nobody recorded.
      const token = context.rows.token.map((t) => (t < 0 || !isInside(tokenOf(t)) ? unknownToken : tokenOf(t)));
      const table = Object.create(context.rows, { token: { value: token } });
      return embedding(weight).evaluate({ ...context, rows: table }, rows, columns);
    },
  });
  const out = [1, -1, 2, -2].map((offset) =>
    hypothesis("embedding-row-shifted", site, [replaced(site, { op: lookingUp({ offset }, (t) => t + offset) })], {
      kind: "parameter",
      transform: "T3",
      parameters: { offset },
      statement: `the embedding of token id ${offset > 0 ? "+" : "-"} ${Math.abs(offset)} is looked up`,
    }),
  );
  for (const [dtype, exactBelow] of [
    ["bfloat16", 2 ** 8],
    ["float16", 2 ** 11],
    ["float32", 2 ** 24],
  ] as const) {
    if (vocabularySize <= exactBelow) continue;
    const op = lookingUp({ dtype }, (t) => roundTo(t, dtype));
    out.push(
      hypothesis("token-ids-rounded", site, [replaced(site, { op })], {
        kind: "seam",
        transform: "T3",
        parameters: { dtype },
        statement: `token ids pass through ${dtype}, which is exact only up to ${exactBelow}: other rows are looked up`,
      }),
    );
  }
  for (const bits of [8, 16]) {
    if (vocabularySize <= 2 ** bits) continue;
    out.push(
      hypothesis("token-ids-truncated", site, [replaced(site, { op: lookingUp({ bits }, (t) => t % 2 ** bits) })], {
        kind: "seam",
        transform: "T3",
        parameters: { bits },
        statement: `token ids keep their lowest ${bits} bits: other rows are looked up`,
      }),
    );
  }
  const factors = new Map([
    [Math.sqrt(hiddenSize), "sqrt(hidden)"],
    [1 / Math.sqrt(hiddenSize), "1/sqrt(hidden)"],
    [1 / hiddenSize, "1/hidden"],
    [1 / Math.sqrt(2 * layerCount), "1/sqrt(2 layers)"],
  ]);
  for (const [factor, title] of factors) {
    out.push(
      hypothesis("embedding-scaled", site, [replaced(site, { op: affine(site.op, { factor }, () => factor) })], {
        kind: "seam",
        transform: "T6",
        parameters: { factor: Number(factor.toPrecision(4)), recognised: title },
        statement: `embeddings are multiplied by ${short(factor)} = ${title}, which this model does not do`,
      }),
    );
  }
  return [...out, ...otherTokens(proposal)];
}

/** Most wrong rows that are looked for in the table: beyond, the rule is elsewhere. */
const mostLookups = 16;
const rowsAtOnce = 4096;

/** Rows that hold other tokens' embeddings: which tokens', the table says. */
function otherTokens({ site, finding, investigation }: Proposal): Hypothesis[] {
  const { rows, columns, z, observed } = finding.comparison;
  const width = columns.length;
  const wrong = [...rows.keys()].filter((r) => z.subarray(r * width, (r + 1) * width).some((x) => Math.abs(x) > 8));
  if (site.name !== finding.node.name || wrong.length === 0 || wrong.length > mostLookups) return [];
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
      kind: "metadata",
      transform: "T3",
      fitted: found.size,
      parameters: { tokens: Object.fromEntries([...found].map(([at, used]) => [String(at), used])) },
      statement: `${found.size === 1 ? "a row holds" : `${found.size} rows hold`} the embedding of another token (row ${row}: token ${token}, not ${table.token[row]})`,
      group: "embedding-token-wrong",
    }),
  ];
}

function gathers({ site, investigation }: Proposal): Hypothesis[] {
  const table = investigation.observations.rows;
  const bounds = (row: number) => {
    const step = table.steps[table.stepOf[row]!]!;
    const b = table.sequenceOf[row]!;
    return {
      first: step.firstRow + step.qoIndptr[b]!,
      end: step.firstRow + step.qoIndptr[b + 1]!,
      stepFirst: step.firstRow,
      stepEnd: step.firstRow + step.rowCount,
    };
  };
  const clamp = (row: number, low: number, high: number) => Math.min(Math.max(row, low), high);
  const choices: [string, (row: number) => number][] = [
    ["the row before", (row) => clamp(row - 1, bounds(row).stepFirst, row)],
    ["the row after", (row) => clamp(row + 1, row, bounds(row).stepEnd - 1)],
    ["the first row of the sequence", (row) => bounds(row).first],
    ["the last row of the sequence", (row) => bounds(row).end - 1],
    ["the last row of the step", (row) => bounds(row).stepEnd - 1],
    ["the first row of the step", (row) => bounds(row).stepFirst],
    ["rows in reverse", (row) => bounds(row).stepFirst + bounds(row).stepEnd - 1 - row],
  ];
  return choices.map(([which, rowOf]) =>
    hypothesis("gathered-row-wrong", site, [replaced(site, { op: select(rowOf) })], {
      kind: "metadata",
      transform: "T3",
      parameters: { which },
      statement: `the logits are computed from ${which}`,
    }),
  );
}

function logits({ site }: Proposal): Hypothesis[] {
  return [5, 10, 15, 20, 30, 50, 100].map((cap) => {
    const op = transformed(site.op, { softCap: cap }, (block) => ({
      value: block.value.map((x) => cap * Math.tanh(x / cap)),
      variance: block.variance.map((v, i) => v * (1 - Math.tanh(block.value[i]! / cap) ** 2) ** 2),
      range: block.range,
    }));
    return hypothesis("logits-soft-cap", site, [replaced(site, { op })], {
      kind: "parameter",
      transform: "T7",
      parameters: { softCap: cap },
      statement: `logits pass through a soft cap of ${cap} that the model does not have`,
    });
  });
}
