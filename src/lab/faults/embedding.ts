import { emptyBlock } from "../../spec/op.js";
import { roundTo } from "../../tensor/dtype.js";
import { choose, type Fault, type FaultContext, fault, integer } from "../fault.js";
import { elementwise, spoilt, withOp } from "../rewrite.js";

const table = "model.embed_tokens.weight";
const name = "model.embed_tokens";

/** A lookup of another row of the table. */
function looksUp({ graph, config }: FaultContext, rowOf: (token: number) => number) {
  const op = {
    kind: "embedding",
    attributes: { weight: table },
    evaluate(
      { rows, parameters }: Parameters<ReturnType<typeof graph.node>["op"]["evaluate"]>[0],
      at: Int32Array,
      columns: Int32Array,
    ) {
      const out = emptyBlock(at.length * columns.length, false);
      at.forEach((row, i) => {
        const wanted = Math.min(Math.max(rowOf(rows.token[row]!), 0), config.vocabularySize - 1);
        const embedded = parameters.rows(table, wanted, 1);
        columns.forEach((column, c) => {
          out.value[i * columns.length + c] = embedded[column]!;
        });
      });
      return out;
    },
  };
  return { nodes: [withOp(graph, name, op)] };
}

const model = { scope: "model" as const, firstBad: () => [name] };

export const embeddingFaults: readonly Fault[] = [
  fault({
    ...model,
    id: "C5-embedding-scaled",
    title: "embeddings multiplied by a factor of the hidden size",
    kind: "seam",
    transform: "T6",
    expected: ["embedding-scaled", "scaled"],
    parameters: (random) => ({ factor: choose(random, ["sqrt", "inverse-sqrt"]) }),
    inject({ graph, config, values }) {
      const root = Math.sqrt(config.hiddenSize);
      const factor = values.factor === "sqrt" ? root : 1 / root;
      return {
        nodes: spoilt(
          graph,
          name,
          elementwise(1, ([x]) => x! * factor),
        ),
      };
    },
  }),
  fault({
    ...model,
    id: "C9.15-embedding-row-shifted",
    title: "row of the next token id",
    kind: "kernel",
    transform: "T3",
    expected: ["rows-shifted", "embedding-row-shifted"],
    parameters: (random) => ({ offset: choose(random, [1, -1]) }),
    inject: (context) => looksUp(context, (token) => token + Number(context.values.offset)),
  }),
  fault({
    ...model,
    id: "C7.10-token-ids-rounded",
    title: "token ids passed through bfloat16",
    kind: "seam",
    transform: "T3",
    expected: ["token-ids-rounded"],
    hiddenWhen: "ids of at most 8 significant bits",
    applies: (config) => config.vocabularySize > 512,
    inject: (context) => looksUp(context, (token) => roundTo(token, "bfloat16")),
  }),
  fault({
    ...model,
    id: "T03-token-wrong",
    title: "one token of the batch is another",
    kind: "metadata",
    transform: "T3",
    expected: ["embedding-token-wrong"],
    parameters: (random, config) => ({
      row: integer(random, 1, 20),
      token: integer(random, 0, config.vocabularySize - 1),
    }),
    inject: ({ graph, values, parameters }) => ({
      nodes: [
        withOp(graph, name, {
          kind: "embedding",
          attributes: {},
          evaluate(context, rows, columns) {
            const out = emptyBlock(rows.length * columns.length, false);
            for (let i = 0; i < out.value.length; i++) {
              const row = rows[Math.floor(i / columns.length)]!;
              const token = row === values.row ? Number(values.token) : context.rows.token[row]!;
              out.value[i] = parameters.rows(`${name}.weight`, token, 1)[columns[i % columns.length]!]!;
            }
            return out;
          },
        }),
      ],
    }),
  }),
];
