import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { choose, type Fault, type FaultValues, fault, layerPath } from "../fault.js";
import { type HandAttention, handAttention } from "../hand-attention.js";
import { attributesOf, withOp } from "../rewrite.js";

const output = (layer: number) => `${layerPath(layer).attn}.o_proj.input`;

function byHand(
  definition: Pick<Fault, "id" | "title" | "kind" | "transform" | "expected"> &
    Partial<Fault> & { hand: (a: AttentionAttributes, values: FaultValues) => HandAttention },
): Fault {
  const { hand, ...rest } = definition;
  return fault({
    hiddenWhen: "rows with one key",
    applies: (config, _store, layer) => config.windowLeft(layer) === undefined,
    firstBad: (_, layer) => [output(layer)],
    inject({ graph, values }, layer) {
      const a = attributesOf<AttentionAttributes>(graph, output(layer));
      return { nodes: [withOp(graph, output(layer), handAttention(a, hand(a, values)))] };
    },
    ...rest,
  });
}

/** Attention written by hand, with something wrong between the scores and the sum. */
export const scoreFaults: readonly Fault[] = [
  byHand({
    id: "T07-scale-off",
    title: "scores multiplied by a number near 1",
    kind: "parameter",
    transform: "T7",
    expected: ["softmax-scale"],
    parameters: (random) => ({ factor: choose(random, [0.97, 1.03, 1.15]) }),
    hand: (_, { factor }) => ({ score: (score) => score * Number(factor) }),
  }),
  byHand({
    id: "T06-alibi",
    title: "scores that fall with distance",
    kind: "seam",
    transform: "T6",
    expected: ["alibi"],
    hand: (a) => ({ score: (score, head, query, key) => score - 2 ** ((-8 * (head + 1)) / a.heads) * (query - key) }),
  }),
  byHand({
    id: "T15-merge-wrong",
    title: "two parts of the keys merged with the wrong base",
    kind: "kernel",
    transform: "T15",
    expected: ["merge-wrong"],
    parameters: (random) => ({ rule: choose(random, ["base", "mean"]) }),
    hand: (_, { rule }) => ({
      parts: {
        of: (position, keyCount) => (position < Math.ceil(keyCount / 2) ? 0 : 1),
        weight: (logSum, largest) => (rule === "mean" ? 1 : 2 ** (logSum - largest)),
      },
    }),
  }),
  byHand({
    id: "T04-first-keys-masked",
    title: "the first keys are masked for all that come after them",
    kind: "kernel",
    transform: "T4",
    expected: ["first-keys-skipped"],
    parameters: (random) => ({ keys: choose(random, [1, 2]) }),
    hand: (_, { keys }) => ({ visible: (row, position) => position >= Number(keys) || row < Number(keys) }),
  }),
];
