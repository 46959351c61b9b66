import { emptyBlock, type Op } from "../op.js";
import { unknownToken } from "../rows.js";

/** Row `token` of the embedding table [vocabulary, hidden]; exact, since a lookup rounds nothing. */
export function embedding(weight: string): Op {
  return {
    kind: "embedding",
    attributes: { weight },
    evaluate({ rows: table, parameters, noise }, rows, columns) {
      const out = emptyBlock(rows.length * columns.length, noise);
      for (let i = 0; i < rows.length; i++) {
        const token = table.token[rows[i]!]!;
        if (token === unknownToken) {
          if (noise) out.variance.fill(Infinity, i * columns.length, (i + 1) * columns.length);
          continue;
        }
        const embedded = parameters.rows(weight, token, 1);
        for (let c = 0; c < columns.length; c++) out.value[i * columns.length + c] = embedded[columns[c]!]!;
      }
      return out;
    },
  };
}
