import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { roleOf } from "../../spec/site.js";
import { withChangedRows } from "../../tensor/changed-rows.js";
import { attentionOperandCauses } from "./attention-operands.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { mlpCauses } from "./mlp.js";
import { type Description, hypothesesOf, lastName, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced, restricted } from "./transform.js";

/** Which parameter a product multiplies by. */
export const weightCauses = {
  "weight-from-other-layer": {
    kind: "parameter",
    transform: "T19",
    legend: "A product or a norm uses the same parameter of another layer.",
    hiddenBy: "equal parameters",
    confusedWith: ["weight-swapped", "norm-weights-swapped", "low-rank-delta"],
  },
  "weight-swapped": {
    kind: "parameter",
    transform: "T19",
    legend: "A product multiplies by the weight of another product of its layer.",
    hiddenBy: "equal weights",
    confusedWith: ["weight-from-other-layer", "operand-swapped"],
    report: ["vllm-project/vllm#8017", "a packed projection was split wrongly under tensor parallelism"],
  },
  "weights-untied": {
    kind: "parameter",
    transform: "T19",
    legend:
      "The head does not use the embedding's table although the config ties them, or uses it although it does not.",
    hiddenBy: "never",
    confusedWith: ["vocabulary-permuted", "low-rank-delta"],
    report: ["huggingface/transformers#43429", "tied weights were never linked: the head was random"],
  },
  "weight-transposed": {
    kind: "parameter",
    transform: "T1",
    legend: "A square weight is used transposed.",
    hiddenBy: "symmetric weights",
    confusedWith: ["weight-swapped"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...weightCauses, ...attentionOperandCauses, ...mlpCauses });
type WeightCause = keyof typeof weightCauses | "key-value-swapped" | "gate-up-swapped";
const isProduct = ofKind("linear");

export const weightSearches: readonly Search[] = [
  {
    causes: ["weight-from-other-layer", "key-value-swapped", "gate-up-swapped", "weights-untied", "weight-swapped"],
    stage: "named",
    appliesTo: isProduct,
    rewrites: otherWeights,
  },
  {
    causes: ["key-value-swapped", "gate-up-swapped", "weight-swapped"],
    stage: "named",
    appliesTo: (proposal) => isProduct(proposal) && !proposal.investigation.observations.has(proposal.site.name),
    rewrites: exchangedWeights,
  },
  {
    causes: ["weight-transposed"],
    stage: "named",
    appliesTo: isProduct,
    rewrites({ site, investigation }) {
      const a = site.op.attributes as unknown as LinearAttributes;
      const [rows, columns] = investigation.parameters.shape(a.weight) ?? [];
      return rows !== undefined && rows === columns ? [transposed(site, a, rows)] : [];
    },
  },
];

/** Another parameter of the same shape: a sibling, or the same one of another layer. */
function otherWeights({ site, investigation }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  const { parameters, graph } = investigation;
  const shape = parameters.shape(a.weight);
  if (!shape) return [];
  const out: Hypothesis[] = [];
  const readers = new Map<unknown, GraphNode>();
  for (const node of graph.nodes.values()) readers.set(node.op.attributes.weight, node);
  const own = lastName(site.name);
  for (const name of parameters.names()) {
    const other = parameters.shape(name)!;
    if (name === a.weight || other.length !== 2 || other[0] !== shape[0] || other[1] !== shape[1]) continue;
    // What the spec does not read belongs to no layer: a head's own weight beside a tied one.
    const reader = readers.get(name);
    const layer = reader?.layer;
    const sameLayer = layer === undefined || layer === site.layer;
    if (!sameLayer && roleOf(reader!) !== roleOf(site)) continue;
    const cause = !sameLayer ? "weight-from-other-layer" : siblingCause(site, reader);
    const op = linear({ ...a, weight: name });
    const group = sameLayer ? cause : `${cause} ${layer - (site.layer ?? 0)}`;
    const description = {
      kind: "parameter" as const,
      transform: "T19" as const,
      parameters: { used: name },
      group,
    };
    out.push(
      hypothesis(cause, site, [replaced(site, { op })], {
        ...description,
        statement: `${own} multiplies by ${name}, not by its own weight`,
      }),
    );
    const bias = reader?.op.attributes.bias;
    if (a.bias && typeof bias === "string") {
      out.push(
        hypothesis(cause, site, [replaced(site, { op: linear({ ...a, weight: name, bias }) })], {
          ...description,
          statement: `${own} multiplies by ${name} and adds its bias, not its own`,
        }),
      );
    }
    out.push(...partialWeight(site, op, cause, description, name));
  }
  return out;
}

/**
 * Two products of the same operand, neither of them recorded, each with the other's weight and bias: apart, neither of the two
 * brings what follows nearer.
 */
function exchangedWeights({ site, investigation }: Proposal): Hypothesis[] {
  const { parameters, graph, observations } = investigation;
  const own = site.op.attributes as unknown as LinearAttributes;
  const shape = parameters.shape(own.weight)?.join();
  const siblings = graph.consumers(site.inputs[0]!).map((name) => graph.node(name));
  // Each pair once, at its first product.
  return siblings.slice(siblings.indexOf(site) + 1).flatMap((sibling) => {
    const other = sibling.op.attributes as unknown as LinearAttributes;
    if (sibling.op.kind !== "linear" || observations.has(sibling.name)) return [];
    if (parameters.shape(other.weight)?.join() !== shape) return [];
    const multiply = (node: GraphNode, { weight, bias }: LinearAttributes) =>
      replaced(node, { op: linear({ ...(node.op.attributes as unknown as LinearAttributes), weight, bias }) });
    return [
      hypothesis(siblingCause(site, sibling), site, [multiply(site, other), multiply(sibling, own)], {
        kind: "parameter",
        transform: "T19",
        parameters: { exchanged: `${lastName(site.name)}, ${lastName(sibling.name)}` },
        statement: `${lastName(site.name)} and ${lastName(sibling.name)} multiply by each other's weights`,
      }),
    ];
  });
}

function siblingCause({ site }: GraphNode, reader: GraphNode | undefined): WeightCause {
  const pair = [site.what, reader?.site.what];
  if (pair.includes("key") && pair.includes("value")) return "key-value-swapped";
  if (pair.includes("gate") && pair.includes("up")) return "gate-up-swapped";
  return site.what === "logits" || reader?.site.what === "embedding" ? "weights-untied" : "weight-swapped";
}

/** The same, in a contiguous range of output channels only: half a shard, a head, a tile. */
function partialWeight(
  site: GraphNode,
  op: Op,
  cause: WeightCause,
  description: Omit<Description, "statement"> & { parameters: Record<string, string>; group: string },
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
    statement: `${a.weight} is used transposed`,
  });
}

function turn(values: Float64Array, n: number, first: number, count: number): Float64Array {
  const out = new Float64Array(count * n);
  for (let r = 0; r < count; r++) for (let c = 0; c < n; c++) out[r * n + c] = values[c * n + first + r]!;
  return out;
}
