import type { GraphNode } from "../../spec/graph.js";
import { indices, type Op, type OpContext } from "../../spec/op.js";
import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import { dropShares, isShare } from "./drop-share.js";
import { dropoutCauses } from "./dropout.js";
import type { Hypothesis } from "./hypothesis.js";
import { solve } from "./least-squares.js";
import { hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** What one head of one row says about its keys' weights. */
interface HeadWeights {
  /** What the weight of each key should be, and its share of that as the output has it. */
  readonly weights: readonly { readonly share: number; readonly probability: number }[];
  /** Products of the keys' values with each other, and last with the output. */
  readonly products: readonly Float64Array[];
}

/** Weights below this say nothing about themselves. */
const telling = 0.05;
const enough = 48;
const fewRows = 8;
/** Keys per channel from which weights cannot be told. */
const solvable = 0.75;
/** How near a weight must come to nothing, or to what is left of it. */
const near = 0.25;

const hypothesis = hypothesesOf(dropoutCauses);

/** Dropout left on in attention: a random share of the weights is zero, the rest divided by what is left. */
export const attentionDropoutSearches: readonly Search[] = [
  {
    causes: ["dropout"],
    stage: "fitted",
    appliesTo: (proposal) => {
      const { site, finding, investigation } = proposal;
      if (site.op.kind !== "attention" || !isRecorded(proposal) || !investigation.hasBits(site.name)) return false;
      return finding.comparison.columns.length === site.columns;
    },
    rewrites: attentionDropout,
  },
];

function attentionDropout(proposal: Proposal): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  const a = site.op.attributes as unknown as AttentionAttributes;
  const { rows } = finding.comparison;
  const table = investigation.observations.rows;
  // As many channels as keys, and some more against rounding, say each key's weight.
  const isSolvable = (row: number) => table.position[row]! + 1 <= solvable * a.headDim;
  const readable = rows.filter(isSolvable);
  const read = new Map<number, readonly HeadWeights[]>();
  const headsOf = (row: number) => {
    let heads = read.get(row);
    if (!heads) {
      heads = weightShares(proposal, a, row);
      read.set(row, heads);
    }
    return heads;
  };
  // A few rows tell whether the others are worth it.
  const stride = Math.max(1, Math.floor(readable.length / fewRows));
  const few = readable.filter((_, r) => r % stride === stride - 1);
  const seen = [...few]
    .flatMap((row) => headsOf(row).flatMap(({ weights }) => weights))
    .filter(({ probability }) => probability > telling);
  return dropShares.flatMap((share) => {
    const factor = 1 / (1 - share);
    const dropped = seen.filter((weight) => Math.abs(weight.share) < near).length;
    const kept = seen.filter((weight) => Math.abs(weight.share / factor - 1) < near).length;
    if (dropped + kept < 0.9 * seen.length || dropped + kept < enough || !isShare(share, dropped, dropped + kept))
      return [];
    const decided = new Map<number, boolean[][]>();
    const keptOf = (row: number) => {
      const kept = decided.get(row) ?? headsOf(row).map((head) => keptKeys(head, factor));
      decided.set(row, kept);
      return kept;
    };
    const thinned = attention({
      ...a,
      rewrite: {
        factor: (row, head, position) => {
          if (!isSolvable(row)) return 1;
          return keptOf(row)[head]?.[position] === false ? 0 : factor;
        },
      },
    });
    const op = spread(thinned, attention(a), share, isSolvable);
    return [
      hypothesis("dropout", site, [replaced(site, { op })], {
        fitted: 1,
        parameters: { share, of: "probabilities" },
        statement: `a random ${share} of the attention probabilities is zero and the rest divided by ${Number((1 - share).toFixed(2))}: dropout is left on`,
      }),
    ];
  });
}

/** Rows with more keys than can be read off may be anything that dropout makes of them: as meant, on average. */
function spread(read: Op, plain: Op, share: number, isSolvable: (row: number) => boolean): Op {
  return {
    ...read,
    evaluate(context, rows, columns) {
      const out = read.evaluate(context, rows, columns);
      const others = rows.filter((row) => !isSolvable(row));
      if (!context.noise || others.length === 0) return out;
      const squares: OpContext["input"] = (index, ...asked) => {
        const block = context.input(index, ...asked);
        return index === 2 ? { ...block, value: block.value.map((v) => v * v) } : block;
      };
      // Σ p² v² is at most Σ p v².
      const { value } = plain.evaluate({ ...context, noise: false, input: squares }, others, columns);
      const variance = out.variance.slice();
      rows.forEach((row, r) => {
        const at = others.indexOf(row);
        for (let c = 0; at >= 0 && c < columns.length; c++)
          variance[r * columns.length + c]! += (share / (1 - share)) * value[at * columns.length + c]!;
      });
      return { ...out, variance };
    },
  };
}

/** What each key's weight in a recorded row is of what it should be: the values, solved for their weights. */
function weightShares({ site, investigation }: Proposal, a: AttentionAttributes, row: number): HeadWeights[] {
  const { observations, graph } = investigation;
  const plain = investigation.quiet;
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
    const products = normal.map((line) => line.slice());
    const found = solve(normal);
    const shares = Array.from({ length: count }, (_, position) => {
      const probability = weights[head * a.headDim + position]!;
      return { probability, share: found && probability > 0 ? found[position]! / probability : 1 };
    });
    return { weights: shares, products };
  });
}

/**
 * Which keys of a head were kept: from what each weight says alone, one or two exchanged for as long as that brings the
 * output nearer. Values that lie near each other leave single weights uncertain.
 */
function keptKeys({ weights, products }: HeadWeights, factor: number): boolean[] {
  const kept = weights.map(({ share }) => share >= factor / 2);
  const count = weights.length;
  const step = (j: number) => (kept[j] ? -1 : 1) * factor * weights[j]!.probability;
  // Half the derivative of the squared distance by each weight.
  const slope = products.map((line, j) => {
    let sum = -products[j]![count]!;
    for (let i = 0; i < count; i++) if (kept[i]) sum += line[i]! * factor * weights[i]!.probability;
    return sum;
  });
  for (let pass = 0; pass < 4 * count; pass++) {
    let best: number[] = [];
    let gain = -1e-12 * Math.abs(products[0]![0]!);
    for (let i = 0; i < count; i++) {
      const alone = step(i) * (2 * slope[i]! + step(i) * products[i]![i]!);
      if (alone < gain) [best, gain] = [[i], alone];
      for (let j = 0; j < i; j++) {
        const other = step(j) * (2 * slope[j]! + step(j) * products[j]![j]!);
        const both = alone + other + 2 * step(i) * step(j) * products[i]![j]!;
        if (both < gain) [best, gain] = [[i, j], both];
      }
    }
    if (best.length === 0) break;
    for (const j of best) {
      const change = step(j);
      for (let i = 0; i < count; i++) slope[i]! += change * products[i]![j]!;
      kept[j] = !kept[j];
    }
  }
  return kept;
}
