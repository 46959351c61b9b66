import type { BatchLengths } from "../../../src/lab/batch.js";
import { type FaultContext, type FaultValues, fault, type Injection } from "../../../src/lab/fault.js";
import { type HandAttention, handAttention } from "../../../src/lab/hand-attention.js";
import { handNorm } from "../../../src/lab/hand-norm.js";
import { type HandRope, handRope } from "../../../src/lab/hand-rope.js";
import type { BatchPadding } from "../../../src/lab/padded-batch.js";
import type { CacheLayout } from "../../../src/lab/paged-cache.js";
import { attributesOf, dependent, elementwise, gathered, spoilt, withOp } from "../../../src/lab/rewrite.js";
import type { TinyFamily } from "../../../src/lab/tiny-model.js";
import type { CodecId } from "../../../src/lab/weight-codecs.js";
import type { GraphNode } from "../../../src/spec/graph.js";
import { emptyBlock, type Op } from "../../../src/spec/op.js";
import type { AttentionAttributes } from "../../../src/spec/ops/attention.js";
import type { RmsNormAttributes } from "../../../src/spec/ops/rmsnorm.js";
import type { RopeAttributes } from "../../../src/spec/ops/rope-attributes.js";
import type { RowTable } from "../../../src/spec/rows.js";
import { type DType, roundTo } from "../../../src/tensor/dtype.js";

/** A run that shows one cause, and where. Values are those of layer 1: `mlp.up_proj`; with a dot in front as they are. */
export interface Shown {
  /** A fault of the lab, one written out for this test, or one in transformers' code of a family's golden recording. */
  readonly fault:
    | string
    | ((context: FaultContext) => Injection)
    | { readonly family: string; readonly name: string }
    | { readonly mixture: string; readonly name: string };
  readonly values?: FaultValues;
  /** The value it sits at, and the recorded one that shows it where that is another. */
  readonly at: string;
  readonly unit?: string;
  /** A value it cannot sit at; an activation unless given. */
  readonly never?: string;
  readonly family?: TinyFamily;
  readonly store?: DType;
  readonly lengths?: BatchLengths;
  readonly padding?: BatchPadding;
  readonly cache?: CacheLayout;
  /** The weight format of the checkpoint, and what a runtime does wrong that reads it: `fault` is not put in then. */
  readonly misread?: readonly [codec: CodecId, fault: string];
  /** The weight format of the checkpoint alone. */
  readonly keptIn?: CodecId;
  /** What the model means where its family does not: the run is right without it, and wrong by it. */
  readonly meaning?: (node: GraphNode) => Op;
}

export const attended = "self_attn.o_proj.input";
const layer = "model.layers.1";
/** The full name of a value of layer 1, or of the model. */
export function named(value: string): string {
  return value.startsWith(".") ? value.slice(1) : value === "" ? layer : `${layer}.${value}`;
}

/** A fault of its own around nodes. */
export function localFault(inject: (context: FaultContext) => Injection) {
  return fault({ id: "local", title: "", kind: "kernel", transform: "T1", expected: [], inject, firstBad: () => [] });
}

/** A product of operands in e4m3 per token, its sums multiplied by the weight's scales and not by the operand's. */
export function operandUnscaled(value: string) {
  return ({ graph, parameters }: FaultContext): Injection => {
    const node = graph.node(named(value));
    const [height, width] = parameters.shape(`${named(value)}.weight`) as [number, number];
    const weight = parameters.quantised!(`${named(value)}.weight`)!.rows(0, height, "exact");
    const op: Op = {
      kind: "linear",
      attributes: {},
      evaluate(context, rows, columns) {
        const x = context.input(0, rows).value;
        const out = emptyBlock(rows.length * columns.length, false);
        rows.forEach((_, r) => {
          const row = x.subarray(r * width, (r + 1) * width);
          const scale = Math.fround(Math.max(...row.map(Math.abs)) / 448);
          const numbers = row.map((v) => roundTo(Math.fround(v / scale), "float8_e4m3fn"));
          columns.forEach((column, c) => {
            let sum = 0;
            for (let k = 0; k < width; k++) sum += numbers[k]! * weight[column * width + k]!;
            out.value[r * columns.length + c] = sum;
          });
        });
        return out;
      },
    };
    return { nodes: [{ ...node, op }] };
  };
}

/** `value` computed as meant, then each of its elements changed. */
export function changed(value: string, f: (x: number, row: number, column: number) => number) {
  return ({ graph }: FaultContext): Injection => ({
    nodes: spoilt(
      graph,
      named(value),
      elementwise(1, ([x], row, column) => f(x!, row, column)),
    ),
  });
}

/** `value` with its elements fetched from elsewhere; undefined: never written. */
export function fetched(
  value: string,
  from: (row: number, column: number, width: number) => { row?: number; column?: number } | undefined,
) {
  return ({ graph }: FaultContext): Injection => {
    const width = graph.node(named(value)).columns;
    return {
      nodes: spoilt(
        graph,
        named(value),
        gathered((row, column) => from(row, column, width)),
      ),
    };
  };
}

/** `value` reads other inputs. */
export function rewired(value: string, inputs: readonly string[]) {
  return ({ graph }: FaultContext): Injection => ({
    nodes: [{ ...graph.node(named(value)), inputs: inputs.map(named) }],
  });
}

/** `value` is a function of the same elements of its inputs. */
export function combined(value: string, f: (values: readonly number[]) => number) {
  return ({ graph }: FaultContext): Injection => {
    const node = graph.node(named(value));
    return { nodes: [withOp(graph, node.name, elementwise(node.inputs.length, f))] };
  };
}

/** `value` is another one, unchanged. */
export function copied(value: string, other: string) {
  return ({ graph }: FaultContext): Injection => ({
    nodes: [
      {
        ...withOp(
          graph,
          named(value),
          elementwise(1, ([x]) => x!),
        ),
        inputs: [named(other)],
      },
    ],
  });
}

/** A product that reads only some of its inputs. */
export function operandCut(value: string, keeps: (column: number) => boolean) {
  return ({ graph }: FaultContext): Injection => {
    const product = graph.node(named(value));
    const operand = graph.node(product.inputs[0]!);
    const op = gathered((_, column) => (keeps(column) ? {} : undefined));
    const cut = { ...operand, name: `${operand.name} cut`, op, inputs: [operand.name] };
    return { nodes: [cut, { ...product, inputs: [cut.name] }] };
  };
}

/** Attention reads a cache multiplied by a factor. */
export function readScaled(cache: string, factor: number) {
  return ({ graph }: FaultContext): Injection => {
    const node = graph.node(named(attended));
    const op = elementwise(1, ([x]) => x! * factor);
    const scaled = { ...graph.node(named(cache)), name: `${named(cache)} scaled`, op, inputs: [named(cache)] };
    const inputs = node.inputs.map((input) => (input === named(cache) ? scaled.name : input));
    return { nodes: [scaled, { ...node, inputs }] };
  };
}

/** Attention by hand. */
export function attending(hand: (table: RowTable, a: AttentionAttributes) => HandAttention) {
  return ({ graph }: FaultContext): Injection => {
    const a = attributesOf<AttentionAttributes>(graph, named(attended));
    const op = dependent("attention", ({ rows }) => handAttention(a, hand(rows, a)));
    return { nodes: [withOp(graph, named(attended), op)] };
  };
}

/** Rotated queries by hand. */
export function turning(hand: (a: RopeAttributes) => HandRope) {
  return ({ graph }: FaultContext): Injection => {
    const a = attributesOf<RopeAttributes>(graph, named("self_attn.q_rope"));
    return { nodes: [withOp(graph, named("self_attn.q_rope"), handRope(a, hand(a)))] };
  };
}

/** Large embeddings, and a norm whose sum of squares overflows float16. */
export function overflowing({ graph, store }: FaultContext): Injection {
  const name = named("input_layernorm");
  const a = attributesOf<RmsNormAttributes>(graph, name);
  const large = spoilt(
    graph,
    "model.layers.0",
    elementwise(1, ([x], row) => x! * (row % 2 === 0 ? 256 : 1)),
  );
  const inverse = (group: Float64Array) => {
    const sum = group.reduce((so, x) => so + x * x, 0);
    return sum > 65504 ? 0 : 1 / Math.sqrt(sum / group.length + a.epsilon);
  };
  return { nodes: [...large, withOp(graph, name, handNorm(a, store, inverse))] };
}

/** Embeddings of another token. */
export function lookingUp(tokenOf: (token: number) => number) {
  return ({ graph, parameters }: FaultContext): Injection => {
    const name = "model.embed_tokens";
    const op: Op = {
      kind: "embedding",
      attributes: {},
      evaluate(context, rows, columns) {
        const out = emptyBlock(rows.length * columns.length, false);
        rows.forEach((row, r) => {
          const values = parameters.rows(`${name}.weight`, tokenOf(context.rows.token[row]!), 1);
          columns.forEach((column, c) => {
            out.value[r * columns.length + c] = values[column]!;
          });
        });
        return out;
      },
    };
    return { nodes: [withOp(graph, name, op)] };
  };
}

/** A rotation by halves whose table repeats each frequency twice, as one for neighbours does. */
export function interleavedTable({ graph }: FaultContext): Injection {
  const name = named("self_attn.q_rope");
  const { headDim, inverseFrequencies } = attributesOf<RopeAttributes>(graph, name);
  const half = headDim / 2;
  const op: Op = {
    kind: "rope",
    attributes: {},
    evaluate(context, rows, columns) {
      const x = context.input(0, rows).value;
      const width = context.width(0);
      const out = emptyBlock(rows.length * columns.length, false);
      for (let i = 0; i < out.value.length; i++) {
        const [r, column] = [Math.floor(i / columns.length), columns[i % columns.length]!];
        const channel = column % headDim;
        const angle = context.rows.position[rows[r]!]! * inverseFrequencies[channel >> 1]!;
        const partner = channel < half ? -x[r * width + column + half]! : x[r * width + column - half]!;
        out.value[i] = x[r * width + column]! * Math.cos(angle) + partner * Math.sin(angle);
      }
      return out;
    },
  };
  return { nodes: [withOp(graph, name, op)] };
}
