import { emptyBlock, type Op } from "../op.js";
import { unknownToken } from "../rows.js";

export interface EmbeddingAttributes {
  /** Parameter [vocabulary, hidden]. */
  readonly weight: string;
  /** The tokens that one rank looks up, all others being 0; all when absent. */
  readonly tokens?: { readonly first: number; readonly count: number } | undefined;
}

/** Row `token` of the embedding table [vocabulary, hidden]; exact, since a lookup rounds nothing. */
export function embedding(weight: string, tokens?: EmbeddingAttributes["tokens"]): Op {
  return {
    kind: "embedding",
    attributes: tokens ? { weight, tokens } : { weight },
    evaluate({ rows: table, parameters, noise }, rows, columns) {
      const out = emptyBlock(rows.length * columns.length, noise);
      for (let i = 0; i < rows.length; i++) {
        const token = table.token[rows[i]!]!;
        if (token === unknownToken) {
          if (noise) out.variance.fill(Infinity, i * columns.length, (i + 1) * columns.length);
          continue;
        }
        if (tokens && (token < tokens.first || token >= tokens.first + tokens.count)) continue;
        const embedded = parameters.rows(weight, token, 1);
        for (let c = 0; c < columns.length; c++) out.value[i * columns.length + c] = embedded[columns[c]!]!;
      }
      return out;
    },
  };
}
