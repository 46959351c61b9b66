import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesis, lastName, type Proposal } from "./proposal.js";
import { replaced, taken } from "./transform.js";

/** What a projection multiplies: another value, heads in another order, a sum that leaves inputs out. */
export function operandCauses(proposal: Proposal): Hypothesis[] {
  return [
    ...operands(proposal),
    ...beforeNorm(proposal),
    ...permutedHeads(proposal.site, proposal.investigation),
    ...reductions(proposal),
  ];
}

/** Another recorded value of the right width as the operand: a norm skipped, an activation forgotten, a neighbour read. */
function operands({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const own = site.inputs[0]!;
  const width = graph.node(own).columns;
  const out: Hypothesis[] = [];
  const seen = new Set<string>([own]);
  const unnormed = graph.node(own).op.kind === "rmsnorm" ? graph.node(own).inputs[0] : undefined;
  const candidates = [...graph.nodes.values()].filter(
    (node) =>
      node.columns === width &&
      (node.layer === undefined || site.layer === undefined || Math.abs(node.layer - site.layer) <= 1),
  );
  const position = [...graph.nodes.keys()].indexOf(site.name);
  const order = new Map([...graph.nodes.keys()].map((name, i) => [name, i]));
  for (const node of candidates) {
    if (seen.has(node.name) || !observations.has(node.name) || order.get(node.name)! >= position) continue;
    if (node.op.kind === "identity" || node.name === unnormed) continue;
    seen.add(node.name);
    const skipped = graph.find(own)?.op.kind === "select" && node.name === graph.node("model.norm").inputs[0];
    out.push(
      hypothesis(skipped ? "final-norm-skipped" : "operand-swapped", site, [replaced(site, { inputs: [node.name] })], {
        kind: "seam",
        transform: "T12",
        parameters: { used: node.name },
        statement: skipped
          ? "the final norm is skipped: lm_head reads the residual stream"
          : `${lastName(site.name)} reads ${node.name} where ${own} belongs`,
        group: skipped
          ? "final-norm-skipped"
          : `operand-swapped ${lastName(node.name)} ${(node.layer ?? 0) - (site.layer ?? 0)}`,
      }),
    );
  }
  return out;
}

/** The operand's norm was applied and recorded, and what the product reads is the value before it. */
function beforeNorm({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const norm = graph.node(site.inputs[0]!);
  // Where the norm was not recorded, its own family says that it is missing.
  if (norm.op.kind !== "rmsnorm" || !observations.has(norm.name)) return [];
  return [
    hypothesis("operand-unnormed", site, [replaced(site, { inputs: [norm.inputs[0]!] })], {
      kind: "seam",
      transform: "T13",
      parameters: { norm: lastName(norm.name) },
      statement: `${lastName(site.name)} reads the residual stream itself, not what ${lastName(norm.name)} makes of it`,
    }),
  ];
}

/** A reduction that leaves out its tail, its head, or one tile: K not a multiple of the tile, a loop one step short. */
function reductions({ site, investigation, finding }: Proposal): Hypothesis[] {
  const input = investigation.graph.node(site.inputs[0]!);
  const n = input.columns;
  const skipped: [number, number][] = [];
  for (const share of [n / 2, n / 4, n / 8, n / 3])
    if (Number.isInteger(share)) skipped.push([n - share, n], [0, share]);
  for (const count of [1, 2, 4, 8]) if (count < n) skipped.push([n - count, n]);
  for (const tile of [16, 32, 64, 128, 256]) {
    if (tile >= n) break;
    for (let count = 1; count <= 8 && count * tile < n; count++) skipped.push([n - count * tile, n]);
    if (n % tile > 0) skipped.push([n - (n % tile), n]);
    if (tile >= 32)
      for (let first = 0; first + tile < n && first / tile < 64; first += tile) skipped.push([first, first + tile]);
  }
  // Across many ops one tile more or less does not show.
  if (!investigation.hasBits(finding.node.name)) skipped.splice(0, skipped.length, [n / 2, n]);
  const distinct = new Map(skipped.map((range) => [range.join(), range]));
  return [...distinct.values()].map(([first, end]) => {
    const op: Op = {
      kind: "identity",
      attributes: { skipped: [first, end - 1] },
      evaluate(context, rows, columns) {
        const block = context.input(0, rows, columns);
        const keep = (_: number, i: number) =>
          columns[i % columns.length]! < first || columns[i % columns.length]! >= end;
        return {
          value: block.value.map((x, i) => (keep(x, i) ? x : 0)),
          variance:
            block.variance.length > 0
              ? block.variance.map((v, i) => (keep(v, i) ? v : 0))
              : new Float64Array(block.value.length),
        };
      },
    };
    const view: GraphNode = { ...input, name: `${site.name}.reduced`, op, inputs: [input.name] };
    return hypothesis("reduction-incomplete", site, [view, replaced(site, { inputs: [view.name] })], {
      kind: "kernel",
      transform: "T14",
      parameters: { first, last: end - 1, length: n },
      statement: `the sum leaves out inputs ${first} to ${end - 1} of ${n}`,
    });
  });
}

/** The attention output reaches the projection with heads in another order, or with its axes exchanged. */
function permutedHeads(site: GraphNode, { graph }: Proposal["investigation"]): Hypothesis[] {
  const input = graph.node(site.inputs[0]!);
  if (!input.heads || input.heads < 2) return [];
  const heads = input.heads;
  const width = input.columns / heads;
  const orders: [string, (column: number) => number][] = [
    ["reversed", (c) => (heads - 1 - Math.floor(c / width)) * width + (c % width)],
    ["channel-major", (c) => (c % heads) * width + Math.floor(c / heads)],
    ["head-minor", (c) => (c % width) * heads + Math.floor(c / width)],
  ];
  for (let shift = 1; shift < Math.min(heads, 9); shift++)
    orders.push([`rotated by ${shift}`, (c) => ((Math.floor(c / width) + shift) % heads) * width + (c % width)]);
  for (let a = 0; a < Math.min(heads, 8); a++) {
    for (let b = a + 1; b < Math.min(heads, 8); b++) {
      const swap = (h: number) => (h === a ? b : h === b ? a : h);
      orders.push([`heads ${a} and ${b} exchanged`, (c) => swap(Math.floor(c / width)) * width + (c % width)]);
    }
  }
  for (let group = 2; group < heads; group++) {
    if (heads % group !== 0) continue;
    orders.push([
      `grouped by ${group}`,
      (c) =>
        ((Math.floor(c / width) % group) * (heads / group) + Math.floor(Math.floor(c / width) / group)) * width +
        (c % width),
    ]);
  }
  return orders.map(([order, columnOf]) => {
    const permuted: GraphNode = {
      ...input,
      name: `${site.name}.permuted`,
      op: taken({ order }, columnOf),
      inputs: [input.name],
    };
    return hypothesis("heads-permuted", site, [permuted, replaced(site, { inputs: [permuted.name] })], {
      kind: "seam",
      transform: "T1",
      parameters: { order },
      statement: `${lastName(site.name)} reads its ${heads} heads in another order: ${order}`,
    });
  });
}
