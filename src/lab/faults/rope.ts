import type { Op } from "../../spec/op.js";
import { append } from "../../spec/ops/append.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import type { RowTable } from "../../spec/rows.js";
import type { ChangedParameter } from "../../tensor/changed-parameters.js";
import { roundTo } from "../../tensor/dtype.js";
import { choose, type Fault, type FaultContext, type FaultValues, fault, integer, layerPath } from "../fault.js";
import { type HandRope, handRope } from "../hand-rope.js";
import { wholeParameter } from "../overlay.js";
import { attributesOf, elementwise, gathered, spoilt, withOp } from "../rewrite.js";

function rotated({ values }: FaultContext, layer: number): string[] {
  const letters = values.side === "both" ? ["q", "k"] : [values.side];
  return letters.map((letter) => `${layerPath(layer).attn}.${letter}_rope`);
}

type Change = (attributes: RopeAttributes, values: FaultValues, context: FaultContext) => HandRope;

/** A fault that rotates otherwise. */
function rotation(
  definition: Pick<Fault, "id" | "title" | "kind" | "transform" | "expected"> &
    Partial<Fault> & {
      change: Change;
      settings?: readonly Record<string, number | string>[];
    },
): Fault {
  const { change, settings = [{}], ...rest } = definition;
  return fault({
    hiddenWhen: "position 0",
    parameters: (random) => ({ side: choose(random, ["q", "k", "both"]), ...choose(random, settings) }),
    firstBad: rotated,
    inject: (context, layer) => ({
      nodes: rotated(context, layer).map((name) => withOp(context.graph, name, rotatedBy(context, name, change))),
    }),
    ...rest,
  });
}

function rotatedBy(context: FaultContext, name: string, change: Change): Op {
  const attributes = attributesOf<RopeAttributes>(context.graph, name);
  return handRope(attributes, change(attributes, context.values, context));
}

/** Angle per position of a pair of channels, without any scaling. */
const frequency = (theta: number, pair: number, width: number) => theta ** ((-2 * pair) / width);

/** Rows of a step in which every sequence has one token. */
function decodes(table: RowTable, row: number): boolean {
  const step = table.steps[table.stepOf[row]!]!;
  return step.rowCount === step.seqIds.length;
}

export const ropeFaults: readonly Fault[] = [
  fault({
    id: "I22-rope-missing",
    title: "no rotation",
    kind: "seam",
    transform: "T5",
    expected: ["rope-missing"],
    hiddenWhen: "position 0",
    parameters: (random) => ({ side: choose(random, ["q", "k", "both"]) }),
    firstBad: rotated,
    inject: (context, layer) => ({
      nodes: rotated(context, layer).map((name) =>
        withOp(
          context.graph,
          name,
          elementwise(1, ([x]) => x!),
        ),
      ),
    }),
  }),
  fault({
    id: "C3.03-rope-weight-permuted",
    title: "rows of a projection in the order of the other RoPE convention",
    kind: "parameter",
    transform: "T1",
    expected: ["rope-weight-permuted"],
    parameters: (random) => ({ side: choose(random, ["q", "k"]) }),
    firstBad: ({ values }, layer) => [`${layerPath(layer).attn}.${values.side}_proj`],
    inject({ parameters, config, values }, layer) {
      const name = `${layerPath(layer).attn}.${values.side}_proj`;
      const kinds = ["weight", "bias"].filter((kind) => parameters.shape(`${name}.${kind}`));
      return {
        parameters: new Map(
          kinds.map((kind) => [
            `${name}.${kind}`,
            paired(wholeParameter(parameters, `${name}.${kind}`), config.headDim),
          ]),
        ),
      };
    },
  }),
  fault({
    id: "I29-rope-twice",
    title: "rotated twice",
    kind: "seam",
    transform: "T13",
    expected: ["rope-twice"],
    hiddenWhen: "position 0",
    parameters: (random) => ({ side: choose(random, ["q", "k", "both"]) }),
    firstBad: rotated,
    inject: (context, layer) => ({
      nodes: rotated(context, layer).flatMap((name) => spoilt(context.graph, name, context.graph.node(name).op)),
    }),
  }),
  rotation({
    id: "I23-rope-interleaved",
    title: "pairs neighbouring channels",
    kind: "parameter",
    transform: "T5",
    expected: ["rope-interleaved"],
    change: () => ({ neighbours: true }),
  }),
  rotation({
    id: "I24-rope-reversed",
    title: "rotates the other way",
    kind: "kernel",
    transform: "T5",
    expected: ["rope-reversed"],
    change: () => ({ turn: (angle) => [Math.cos(angle), -Math.sin(angle)] }),
  }),
  rotation({
    id: "I25-rope-theta",
    title: "another RoPE base",
    kind: "parameter",
    transform: "T5",
    expected: ["rope-theta"],
    settings: [{ theta: 10000 }, { theta: 500000 }, { theta: 5e6 }, { theta: 1e6 }],
    applies: (config) => config.ropeAttentionFactor === 1,
    parameters: (random, config) => ({
      side: choose(random, ["q", "k", "both"]),
      theta: choose(
        random,
        [10000, 150000, 500000, 1e6, 5e6].filter((theta) => theta !== config.ropeTheta),
      ),
    }),
    change: ({ rotaryDim }, { theta }) => ({
      angle: (position, pair) => position * frequency(Number(theta), pair, rotaryDim),
    }),
  }),
  rotation({
    id: "I25-rope-linear-scale",
    title: "positions divided by a factor",
    kind: "parameter",
    transform: "T5",
    expected: ["rope-linear-scale"],
    settings: [{ factor: 2 }, { factor: 4 }, { factor: 8 }, { factor: 0.5 }],
    change: ({ inverseFrequencies }, { factor }) => ({
      angle: (position, pair) => (position / Number(factor)) * inverseFrequencies[pair]!,
    }),
  }),
  rotation({
    id: "I26-position-offset",
    title: "positions shifted",
    kind: "metadata",
    transform: "T5",
    expected: ["position-offset"],
    hiddenWhen: "never",
    settings: [{ offset: 1 }, { offset: -1 }, { offset: 3 }, { offset: 16 }],
    change: (_, { offset }) => ({ position: (_row, position) => position + Number(offset) }),
  }),
  fault({
    id: "I26-position-offset-decode",
    title: "positions shifted in decode steps only",
    kind: "metadata",
    transform: "T5",
    situation: "decode-batch",
    expected: ["position-offset", "positions-wrong"],
    parameters: (random) => ({ side: "both", offset: choose(random, [1, -1, 2]) }),
    firstBad: rotated,
    inject: (context, layer) => ({
      nodes: rotated(context, layer).map((name) => {
        const op = rotatedBy(context, name, (_, { offset }) => ({
          position: (row, position, table) => position + (decodes(table, row) ? Number(offset) : 0),
        }));
        return withOp(context.graph, name, op);
      }),
    }),
  }),
  rotation({
    id: "I27-rope-partial",
    title: "rotates only part of each head",
    kind: "parameter",
    transform: "T5",
    expected: ["rope-partial"],
    settings: [{ share: 0.5 }, { share: 0.25 }],
    // With scaled frequencies a shorter table would lose the scaling too: two faults.
    applies: ({ inverseFrequencies: own, ropeTheta, headDim }) =>
      own.every((f, pair) => Math.abs(f - frequency(ropeTheta, pair, headDim)) < 1e-12),
    change: (attributes, values, { config }) => {
      const width = attributes.rotaryDim * Number(values.share);
      return { width, angle: (position, pair) => position * frequency(config.ropeTheta, pair, width) };
    },
  }),
  rotation({
    id: "I28-rope-sine-dropped",
    title: "multiplies with cosines, adds no sines",
    kind: "kernel",
    transform: "T5",
    expected: ["rope-sine-dropped"],
    change: () => ({ turn: (angle) => [Math.cos(angle), 0] }),
  }),
  rotation({
    id: "I28-rope-sine-cosine-swapped",
    title: "sine and cosine tables exchanged",
    kind: "kernel",
    transform: "T5",
    expected: ["rope-sine-cosine-swapped"],
    hiddenWhen: "never",
    change: () => ({ turn: (angle) => [Math.sin(angle), Math.cos(angle)] }),
  }),
  rotation({
    id: "I30-rope-table-clamped",
    title: "table too short: later positions reuse its last row",
    kind: "parameter",
    transform: "T5",
    expected: ["rope-table-clamped"],
    hiddenWhen: "no position beyond the table",
    parameters: (random) => ({ side: choose(random, ["q", "k", "both"]), length: integer(random, 6, 12) }),
    change: (_, { length }) => ({ position: (_row, position) => Math.min(position, Number(length) - 1) }),
  }),
  rotation({
    id: "I31-positions-rounded",
    title: "positions passed through bfloat16",
    kind: "metadata",
    transform: "T5",
    situation: "long",
    expected: ["positions-rounded"],
    hiddenWhen: "no position beyond 256",
    change: () => ({ position: (_, position) => roundTo(position, "bfloat16") }),
  }),
  rotation({
    id: "I31-rope-frequencies-rounded",
    title: "inverse frequencies rounded to bfloat16",
    kind: "kernel",
    transform: "T5",
    expected: ["rope-frequencies-rounded"],
    hiddenWhen: "early positions: the angle error grows with the position",
    change: ({ inverseFrequencies }) => ({
      angle: (position, pair) => position * roundTo(inverseFrequencies[pair]!, "bfloat16"),
    }),
  }),
  fault({
    id: "I31-rope-angles-rounded",
    title: "positions, frequencies and angles in bfloat16",
    kind: "parameter",
    transform: "T5",
    expected: ["rope-angles-rounded"],
    hiddenWhen: "position 0",
    applies: (config) => config.ropeAttentionFactor === 1,
    firstBad: (_, layer) => ["q", "k"].map((letter) => `${layerPath(layer).attn}.${letter}_rope`),
    inject({ graph }, layer) {
      const nodes = ["q", "k"].map((letter) => {
        const node = graph.node(`${layerPath(layer).attn}.${letter}_rope`);
        const attributes = attributesOf<RopeAttributes>(graph, node.name);
        const narrow = (x: number) => roundTo(x, "bfloat16");
        const op = handRope(attributes, {
          angle: (position, pair) => narrow(narrow(position) * narrow(attributes.inverseFrequencies[pair]!)),
          turn: (angle) => [narrow(Math.cos(angle)), narrow(Math.sin(angle))],
        });
        return { ...node, op };
      });
      return { nodes };
    },
  }),
  fault({
    id: "I33-key-unrotated",
    title: "attention reads the key before rotation; the rotated one only goes to the cache",
    kind: "seam",
    transform: "T12",
    expected: ["key-unrotated", "cached-before-rope"],
    hiddenWhen: "position 0",
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph }, layer) {
      const { attn } = layerPath(layer);
      const cache = graph.node(`${attn}.k_cache`);
      return { nodes: [{ ...cache, op: append(), inputs: graph.node(`${attn}.k_rope`).inputs }] };
    },
  }),
  fault({
    id: "I34-decode-rows-unprocessed",
    title: "decode rotates the first row only",
    kind: "kernel",
    transform: "T14",
    situation: "decode-batch",
    // A row that is not rotated equals a row at position 0.
    expected: ["rope-missing", "rows-unwritten", "tile-unwritten", "positions-wrong"],
    parameters: () => ({ side: "both" }),
    firstBad: rotated,
    inject: (context, layer) => ({
      nodes: rotated(context, layer).flatMap((name) => {
        const [source] = context.graph.node(name).inputs;
        const op = gathered((row, _, table) => ({
          input: decodes(table, row) && table.sequenceOf[row]! > 0 ? 1 : 0,
        }));
        return spoilt(context.graph, name, op, [source!]);
      }),
    }),
  }),
];

/** Rows 0, half, 1, half + 1, … of every head: its pairs side by side. */
function paired({ shape, values }: ChangedParameter, headDim: number): ChangedParameter {
  const rows = shape[0]!;
  const width = values.length / rows;
  const out = values.slice();
  for (let row = 0; row < rows; row++) {
    const channel = row % headDim;
    const from = row - channel + (channel >> 1) + (channel % 2) * (headDim / 2);
    out.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return { shape, values: out };
}
