import { identity } from "../../spec/ops/identity.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { choose, type Fault, fault } from "../fault.js";
import { wholeParameter } from "../overlay.js";
import { attributesOf, elementwise, gathered, spoilt, withOp } from "../rewrite.js";

const model = { scope: "model" as const, firstBad: () => ["lm_head"] };

export const logitsFaults: readonly Fault[] = [
  fault({
    ...model,
    id: "I70-vocabulary-permuted",
    title: "vocabulary shards gathered in the wrong order",
    kind: "seam",
    transform: "T1",
    expected: ["vocabulary-permuted"],
    parameters: (random) => ({ shards: choose(random, [2, 4]) }),
    inject({ graph, config, values }) {
      const shards = Number(values.shards);
      const size = Math.floor(config.vocabularySize / shards);
      const op = gathered((_, column) => {
        const shard = Math.floor(column / size);
        return { column: shard < shards ? (shards - 1 - shard) * size + (column % size) : column };
      });
      return { nodes: spoilt(graph, "lm_head", op) };
    },
  }),
  fault({
    ...model,
    id: "I70-vocabulary-shifted",
    title: "logits one column off",
    kind: "seam",
    transform: "T2",
    expected: ["vocabulary-permuted"],
    inject: ({ graph, config }) => ({
      nodes: spoilt(
        graph,
        "lm_head",
        gathered((_, column) => ({ column: (column + 1) % config.vocabularySize })),
      ),
    }),
  }),
  fault({
    ...model,
    id: "I70-weights-untied",
    title: "tied output weights never linked: their initial values are used",
    kind: "parameter",
    transform: "T19",
    expected: ["weights-untied"],
    applies: (config) => config.tiedEmbeddings,
    inject({ graph, parameters }) {
      const { weight } = attributesOf<LinearAttributes>(graph, "lm_head");
      const { shape, values } = wholeParameter(parameters, weight);
      // Fan-in initialisation, as a freshly constructed layer has it.
      const width = shape[1]!;
      for (let i = 0; i < values.length; i++) values[i] = Math.sin(i * 12.9898 + 78.233) / Math.sqrt(width);
      return {
        nodes: [withOp(graph, "lm_head", linear({ weight: "lm_head.weight" }))],
        parameters: new Map([["lm_head.weight", { shape, values }]]),
      };
    },
  }),
  fault({
    ...model,
    id: "I70-weights-tied",
    title: "embedding used as output weights although the model has its own",
    kind: "parameter",
    transform: "T19",
    expected: ["weights-untied"],
    applies: (config) => !config.tiedEmbeddings,
    inject: ({ graph }) => ({
      nodes: [withOp(graph, "lm_head", linear({ weight: "model.embed_tokens.weight" }))],
    }),
  }),
  fault({
    ...model,
    id: "I55-logits-soft-cap",
    title: "logits capped",
    kind: "seam",
    transform: "T7",
    expected: ["logits-soft-cap"],
    hiddenWhen: "logits far below the cap",
    parameters: (random) => ({ cap: choose(random, [30, 10]) }),
    inject({ graph, values }) {
      const cap = Number(values.cap);
      return {
        nodes: spoilt(
          graph,
          "lm_head",
          elementwise(1, ([x]) => cap * Math.tanh(x! / cap)),
        ),
      };
    },
  }),
  fault({
    ...model,
    id: "C5-logits-scaled",
    title: "logits multiplied by a factor",
    kind: "seam",
    transform: "T6",
    expected: ["scaled"],
    parameters: (random) => ({ factor: choose(random, [0.5, 2, 1 / 16]) }),
    inject: ({ graph, values }) => ({
      nodes: spoilt(
        graph,
        "lm_head",
        elementwise(1, ([x]) => x! * Number(values.factor)),
      ),
    }),
  }),
  fault({
    ...model,
    id: "I70-logits-bits",
    title: "logits' bytes declared as the other 16-bit type",
    kind: "seam",
    transform: "T8",
    expected: ["dtype-bits"],
    applies: (_, store) => store === "bfloat16" || store === "float16",
    inject: ({ store }) => ({
      claimed: new Map([["lm_head", store === "bfloat16" ? "float16" : "bfloat16"]]),
    }),
  }),
  fault({
    ...model,
    id: "C9.15-last-row-wrong",
    title: "logits of another row than the sequence's last",
    kind: "metadata",
    transform: "T3",
    situation: "last-token",
    expected: ["rows-shifted", "gathered-row-wrong"],
    hiddenWhen: "one row",
    parameters: (random) => ({ row: choose(random, ["before", "first"]) }),
    inject({ graph, values }) {
      const op = gathered((row, _, table) => {
        const position = table.position[row]!;
        if (position === 0) return {};
        return { row: table.keyRow(row, values.row === "before" ? position - 1 : 0) };
      });
      return { nodes: [withOp(graph, "lm_head.input", op)] };
    },
  }),
  fault({
    ...model,
    id: "C6-final-norm-twice",
    title: "final norm applied again by the head",
    kind: "seam",
    transform: "T13",
    expected: ["norm-twice"],
    inject({ graph }) {
      const again = { ...graph.node("model.norm"), name: "model.norm again", inputs: ["model.norm"] };
      return { nodes: [again, { ...withOp(graph, "lm_head.input", identity()), inputs: [again.name] }] };
    },
  }),
];
