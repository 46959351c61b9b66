import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { withChangedRows } from "../../tensor/changed-rows.js";
import { decode, encode } from "../../tensor/dtype.js";
import { accumulators } from "./accumulator.js";
import type { Hypothesis } from "./hypothesis.js";
import { operandCauses } from "./operand.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";
import { replaced, restricted } from "./transform.js";

/** Projections: bias, the parameter used, its packing, its bits. */
export const linearCauses: CauseFamily = (proposal) => {
  const { site } = proposal;
  if (site.op.kind !== "linear") return [];
  const a = site.op.attributes as unknown as LinearAttributes;
  return [
    ...biases(proposal, a),
    ...otherWeights(proposal, a),
    ...packing(proposal, a),
    ...weightBits(proposal, a),
    ...accumulators(proposal, a),
    ...operandCauses(proposal),
  ];
};

function biases({ site }: Proposal, a: LinearAttributes): Hypothesis[] {
  if (!a.bias) return [];
  const without = linear({ ...a, bias: undefined });
  const out = [
    hypothesis("bias-dropped", site, [replaced(site, { op: without })], {
      kind: "parameter",
      transform: "T11",
      statement: `the bias ${a.bias} is not added`,
    }),
  ];
  for (const factor of [2, 3, 4, 8, -1]) {
    const scaled: GraphNode = { ...site, name: `${site.name}.without_bias`, op: without };
    const difference = combination(site, scaled.name, factor);
    out.push(
      hypothesis("bias-scaled", site, [scaled, { ...site, name: `${site.name}.with_bias` }, difference], {
        kind: "seam",
        transform: "T11",
        parameters: { factor },
        statement: `the bias ${a.bias} is added ${factor} times: once per rank, or on both sides of a seam`,
      }),
    );
  }
  return out;
}

/** without + factor · (with - without). */
function combination(site: GraphNode, without: string, factor: number): GraphNode {
  const op: Op = {
    kind: "linear",
    attributes: { factor },
    evaluate(context, rows, columns) {
      const a = context.input(0, rows, columns);
      const b = context.input(1, rows, columns);
      return { value: a.value.map((x, i) => x + factor * (b.value[i]! - x)), variance: b.variance.slice() };
    },
  };
  return { ...site, op, inputs: [without, `${site.name}.with_bias`] };
}

/** Another parameter of the same shape: a sibling, or the same one of another layer. */
function otherWeights({ site, investigation }: Proposal, a: LinearAttributes): Hypothesis[] {
  const { parameters } = investigation;
  const shape = parameters.shape(a.weight);
  if (!shape) return [];
  const out: Hypothesis[] = [];
  for (const name of parameters.names()) {
    if (name === a.weight || !name.endsWith(".weight")) continue;
    const other = parameters.shape(name)!;
    if (other.length !== 2 || other[0] !== shape[0] || other[1] !== shape[1]) continue;
    const layer = /\.layers\.(\d+)\./.exec(name)?.[1];
    const sameLayer = layer === undefined || Number(layer) === site.layer;
    const sameRole = lastName(name.replace(/\.weight$/, "")) === lastName(site.name);
    if (!sameLayer && !sameRole) continue;
    const own = lastName(site.name);
    const used = lastName(name.replace(/\.weight$/, ""));
    const cause = !sameLayer ? "weight-from-other-layer" : siblingCause(own, used);
    const op = linear({ ...a, weight: name });
    const group = sameLayer ? cause : `${cause} ${Number(layer) - (site.layer ?? 0)}`;
    const description = { kind: "parameter" as const, transform: "T19", parameters: { used: name }, group };
    out.push(
      hypothesis(cause, site, [replaced(site, { op })], {
        ...description,
        statement: `${own} multiplies by ${name}, not by its own weight`,
      }),
    );
    const bias = name.replace(/weight$/, "bias");
    if (a.bias && parameters.shape(bias)) {
      out.push(
        hypothesis(cause, site, [replaced(site, { op: linear({ ...a, weight: name, bias }) })], {
          ...description,
          statement: `${own} multiplies by ${name} and adds its bias, not its own`,
        }),
      );
    }
    out.push(...partialWeight(site, op, cause, description, name));
  }
  if (shape[0] === shape[1]) out.push(transposed(site, a, shape[0]!));
  return out;
}

function siblingCause(own: string, used: string): string {
  const pair = [own, used].sort().join(" ");
  if (pair === "k_proj v_proj") return "key-value-swapped";
  if (pair === "gate_proj up_proj") return "gate-up-swapped";
  if (own === "lm_head" || used === "embed_tokens") return "weights-untied";
  return "weight-swapped";
}

/** The same, in a contiguous range of output channels only: half a shard, a head, a tile. */
function partialWeight(
  site: GraphNode,
  op: Op,
  cause: string,
  description: { kind: "parameter"; transform: string; parameters: Record<string, string>; group: string },
  name: string,
): Hypothesis[] {
  const out: Hypothesis[] = [];
  const tile = site.heads ? site.columns / site.heads : site.columns / 4;
  if (!Number.isInteger(tile)) return out;
  for (let first = 0; first < site.columns; first += tile) {
    for (let end = first + tile; end <= site.columns; end += tile) {
      if (end - first === site.columns || (end - first > tile && first > 0 && end < site.columns)) continue;
      const from = first;
      const to = end;
      out.push(
        hypothesis(
          cause,
          site,
          [replaced(site, { op: restricted(site.op, op, {}, (_, column) => column >= from && column < to) })],
          {
            ...description,
            parameters: { ...description.parameters, columns: [from, to - 1] },
            statement: `columns ${from} to ${to - 1} of ${lastName(site.name)} multiply by ${name}, not by their own weight`,
            group: `${description.group} part`,
          },
        ),
      );
    }
  }
  return out;
}

function transposed(site: GraphNode, a: LinearAttributes, n: number): Hypothesis {
  const op: Op = {
    kind: "linear",
    attributes: { ...a, transposed: true },
    evaluate(context, rows, columns) {
      const turned = withChangedRows(context.parameters, a.weight, (read, first, count) =>
        turn(read(0, n), n, first, count),
      );
      return linear(a).evaluate({ ...context, parameters: turned }, rows, columns);
    },
  };
  return hypothesis("weight-transposed", site, [replaced(site, { op })], {
    kind: "parameter",
    transform: "T1",
    statement: `${a.weight} is used transposed`,
  });
}

function turn(values: Float64Array, n: number, first: number, count: number): Float64Array {
  const out = new Float64Array(count * n);
  for (let r = 0; r < count; r++) for (let c = 0; c < n; c++) out[r * n + c] = values[c * n + first + r]!;
  return out;
}

/** A packed QKV weight, interleaved by key/value group and read as blocks, or the reverse. */
function packing({ site, investigation }: Proposal, a: LinearAttributes): Hypothesis[] {
  const own = /^(.*self_attn)\.([qkv])_proj$/.exec(site.name);
  if (!own) return [];
  const { headCount, keyValueHeadCount, headDim } = investigation.config;
  const group = headCount / keyValueHeadCount;
  const blocks = [...heads("q", headCount), ...heads("k", keyValueHeadCount), ...heads("v", keyValueHeadCount)];
  const interleaved = Array.from({ length: keyValueHeadCount }, (_, g) => [
    ...Array.from({ length: group }, (_, i) => ({ part: "q", head: g * group + i })),
    { part: "k", head: g },
    { part: "v", head: g },
  ]).flat();
  const out: Hypothesis[] = [];
  for (const [stored, read, title] of [
    [interleaved, blocks, "interleaved by group but split as q|k|v blocks"],
    [blocks, interleaved, "in q|k|v blocks but split as interleaved groups"],
  ] as const) {
    const sourceOf = (column: number) => {
      const index = read.findIndex(({ part, head }) => part === own[2] && head === Math.floor(column / headDim));
      return { ...stored[index]!, channel: column % headDim };
    };
    const op: Op = {
      kind: "linear",
      attributes: { ...a, packing: title },
      evaluate(context, rows, columns) {
        const out = {
          value: new Float64Array(rows.length * columns.length),
          variance: new Float64Array(rows.length * columns.length),
        };
        for (const part of ["q", "k", "v"]) {
          const members = [...columns.keys()].filter((c) => sourceOf(columns[c]!).part === part);
          if (members.length === 0) continue;
          const from = Int32Array.from(
            members,
            (c) => sourceOf(columns[c]!).head * headDim + sourceOf(columns[c]!).channel,
          );
          const block = linear({
            weight: `${own[1]}.${part}_proj.weight`,
            bias: a.bias && `${own[1]}.${part}_proj.bias`,
          }).evaluate(context, rows, from);
          members.forEach((c, m) => {
            for (let r = 0; r < rows.length; r++) {
              out.value[r * columns.length + c] = block.value[r * members.length + m]!;
              out.variance[r * columns.length + c] = block.variance[r * members.length + m]!;
            }
          });
        }
        return out;
      },
    };
    out.push(
      hypothesis("heads-interleaved", site, [replaced(site, { op })], {
        kind: "parameter",
        transform: "T1",
        parameters: { packing: title },
        statement: `the packed QKV weight is stored ${title}: heads of q, k and v are exchanged`,
      }),
    );
  }
  return out;

  function heads(part: string, count: number) {
    return Array.from({ length: count }, (_, head) => ({ part, head }));
  }
}

/** Weight bytes of one 16-bit type read as the other. */
function weightBits({ site, investigation }: Proposal, a: LinearAttributes): Hypothesis[] {
  if (investigation.precision.store === "float32") return [];
  return (["float16", "bfloat16"] as const).map((as) => {
    const from = as === "float16" ? "bfloat16" : "float16";
    const op: Op = {
      kind: "linear",
      attributes: { ...a, bits: as },
      evaluate(context, rows, columns) {
        const reread = withChangedRows(context.parameters, a.weight, (read, first, count) =>
          decode(encode(read(first, count), from), as),
        );
        return linear(a).evaluate({ ...context, parameters: reread }, rows, columns);
      },
    };
    return hypothesis("dtype-bits", site, [replaced(site, { op })], {
      kind: "parameter",
      transform: "T8",
      parameters: { stored: from, read: as, of: a.weight },
      statement: `the ${from} bits of ${a.weight} are read as ${as}`,
    });
  });
}
