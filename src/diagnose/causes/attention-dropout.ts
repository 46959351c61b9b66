import { Evaluator } from "../../spec/evaluator.js";
import type { GraphNode } from "../../spec/graph.js";
import { indices, type Op } from "../../spec/op.js";
import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import type { Hypothesis } from "../hypothesis.js";
import { replaced } from "../transform.js";
import { dropShares, isShare } from "./drop-share.js";
import { solve } from "./least-squares.js";
import { hypothesis, type Proposal } from "./proposal.js";

/** A weight's share of what it should be, [keys] of each head, of one row. */
type Shares = readonly (readonly { share: number; probability: number }[])[];

/** Weights below this say nothing about themselves. */
const telling = 0.05;
const enough = 48;
const fewRows = 8;
/** How near a weight must come to nothing, or to what is left of it. */
const near = 0.25;

/** Dropout left on in attention: a random share of the weights is zero, the rest divided by what is left. */
export function attentionDropout(proposal: Proposal): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  const a = site.op.attributes as unknown as AttentionAttributes;
  const { rows } = finding.comparison;
  const table = investigation.observations.rows;
  if (site.name !== finding.node.name || !investigation.hasBits(site.name)) return [];
  if (rows.some((row) => table.keyCount(row) > a.headDim) || finding.comparison.columns.length < site.columns)
    return [];
  const read = new Map<number, Shares>();
  const sharesOf = (row: number) => {
    let shares = read.get(row);
    if (!shares) {
      shares = weightShares(proposal, a, row);
      read.set(row, shares);
    }
    return shares;
  };
  // A few rows tell whether the others are worth it.
  const stride = Math.max(1, Math.floor(rows.length / fewRows));
  const few = rows.filter((_, r) => r % stride === stride - 1);
  const seen = [...few].flatMap((row) => sharesOf(row).flat()).filter(({ probability }) => probability > telling);
  return dropShares.flatMap((share) => {
    const factor = 1 / (1 - share);
    const dropped = seen.filter((weight) => Math.abs(weight.share) < near).length;
    const kept = seen.filter((weight) => Math.abs(weight.share / factor - 1) < near).length;
    if (dropped + kept < 0.9 * seen.length || dropped + kept < enough || !isShare(share, dropped, dropped + kept))
      return [];
    const op = attention({
      ...a,
      rewrite: {
        factor: (row, head, position) => {
          const weight = sharesOf(row)[head]?.[position];
          return weight && weight.share < factor / 2 ? 0 : factor;
        },
      },
    });
    return [
      hypothesis("dropout", site, [replaced(site, { op })], {
        kind: "seam",
        transform: "T14",
        fitted: 1,
        parameters: { share, of: "probabilities" },
        statement: `a random ${share} of the attention probabilities is zero and the rest divided by ${Number((1 - share).toFixed(2))}: dropout is left on`,
      }),
    ];
  });
}

/** What each key's weight in a recorded row is of what it should be: the values, solved for their weights. */
function weightShares({ site, investigation }: Proposal, a: AttentionAttributes, row: number): Shares {
  const { observations, graph } = investigation;
  const plain = new Evaluator({ ...investigation.evaluator, noise: false });
  const values = graph.node(site.inputs[2]!);
  // Values that are 1 in the channel of their own position and 0 in all others: what comes out are the weights.
  const unit: Op = {
    kind: "identity",
    attributes: { unit: true },
    evaluate: (_, keyRows, columns) => ({
      value: Float64Array.from({ length: keyRows.length * columns.length }, (_, i) => {
        const position = observations.rows.position[keyRows[Math.floor(i / columns.length)]!]!;
        return columns[i % columns.length]! % a.headDim === position ? 1 : 0;
      }),
      variance: new Float64Array(0),
    }),
  };
  const units: GraphNode = { ...values, name: `${site.name}.unit values`, op: unit, inputs: [] };
  const inputs = [site.inputs[0]!, site.inputs[1]!, units.name];
  const only = Int32Array.of(row);
  const weights = plain.rewritten([units, replaced(site, { inputs })]).evaluate(site.name, only).value;
  const seen = observations.output(site.name, row)?.value;
  const count = observations.rows.position[row]! + 1;
  const keyRows = indices(count).map((position) => observations.rows.keyRow(row, position));
  const v = plain.read(values.name, keyRows, site.name).value;
  const width = a.keyValueHeads * a.headDim;
  return Array.from({ length: a.heads }, (_, head) => {
    const from = Math.floor((head * a.keyValueHeads) / a.heads) * a.headDim;
    const normal = Array.from({ length: count }, () => new Float64Array(count + 1));
    for (let d = 0; d < a.headDim; d++) {
      const target = seen?.[head * a.headDim + d] ?? 0;
      for (let i = 0; i < count; i++) {
        const x = v[i * width + from + d]!;
        for (let j = 0; j < count; j++) normal[i]![j]! += x * v[j * width + from + d]!;
        normal[i]![count]! += x * target;
      }
    }
    const found = solve(normal);
    return Array.from({ length: count }, (_, position) => {
      const probability = weights[head * a.headDim + position]!;
      return { probability, share: found && probability > 0 ? found[position]! / probability : 1 };
    });
  });
}
