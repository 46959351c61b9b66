import type { GraphNode } from "../../spec/graph.js";
import { add } from "../../spec/ops/add.js";
import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import type { CauseEntries } from "./cause-entry.js";
import { fitNumber } from "./fitted-number.js";
import type { Hypothesis } from "./hypothesis.js";
import { freshName, hypothesesOf, nameInLayer, type Proposal, type Search } from "./proposal.js";
import { multiplied, replaced } from "./transform.js";
import { worldOf } from "./world.js";

/** The residual stream: terms dropped, doubled, subtracted or taken from elsewhere. */
export const residualCauses = {
  "residual-dropped": {
    kind: "seam",
    transform: "T11",
    legend: "The residual is not added to a branch: each side may believe the other does it.",
    hiddenBy: "never",
    confusedWith: ["residual-misdirected", "branch-dropped"],
    report: ["vllm-project/vllm#41972", "a fused all-reduce and norm got an uninitialised residual"],
  },
  "branch-dropped": {
    kind: "seam",
    transform: "T11",
    legend: "The output of a branch is not added to the residual.",
    hiddenBy: "a branch of zeros",
    confusedWith: ["branch-scaled", "layer-skipped"],
  },
  "residual-subtracted": {
    kind: "seam",
    transform: "T11",
    legend: "The output of a branch is subtracted from the residual.",
    hiddenBy: "a branch of zeros",
    confusedWith: ["branch-scaled"],
  },
  "residual-doubled": {
    kind: "seam",
    transform: "T11",
    legend: "The residual is added several times: on both sides of a seam, or on every rank.",
    hiddenBy: "never",
    confusedWith: ["residual-scaled", "branch-scaled"],
    report: ["microsoft/DeepSpeed#2834", "every rank added the residual before the sum over ranks"],
  },
  "branch-scaled": {
    kind: "seam",
    transform: "T11",
    legend: "A branch arrives multiplied by a number: an all-reduce missing or one too many, or a factor.",
    hiddenBy: "a branch of zeros",
    confusedWith: ["residual-scaled", "scaled", "reduction-incomplete"],
    report: ["lightseekorg/tokenspeed#80", "whole outputs were summed over ranks once more"],
  },
  "residual-scaled": {
    kind: "seam",
    transform: "T11",
    legend: "The residual that a branch is added to comes in multiplied by a number.",
    hiddenBy: "never",
    confusedWith: ["residual-doubled", "branch-scaled"],
  },
  "residual-misdirected": {
    kind: "seam",
    transform: "T12",
    legend:
      "A branch is added to another value than the stream: a normalised one, or that of before the last addition.",
    hiddenBy: "never",
    confusedWith: ["residual-dropped", "operand-swapped"],
    report: ["GeeeekExplorer/nano-vllm#170", "a norm worked in place in float32 and normalised the stream itself"],
  },
} as const satisfies CauseEntries;

type ResidualCause = keyof typeof residualCauses;
const hypothesis = hypothesesOf(residualCauses);
const isSum: Search["appliesTo"] = ({ site }) => site.op.kind === "add" && site.site.what === "stream";

function branchOf({ site }: Proposal): "attention" | "mlp" {
  return site.site.block === "attention" ? "attention" : "mlp";
}

/** A search with the same sum under other weights. */
function weighing(
  causes: readonly ResidualCause[],
  choices: (
    branch: string,
    proposal: Proposal,
  ) => readonly (readonly [
    cause: ResidualCause,
    weights: readonly [number, number],
    statement: string,
    parameters?: Record<string, number | string>,
  ])[],
): Search {
  return {
    causes,
    stage: "large",
    appliesTo: isSum,
    rewrites(proposal) {
      const branch = branchOf(proposal);
      return choices(branch, proposal).map(([cause, weights, statement, parameters = {}]) =>
        hypothesis(cause, proposal.site, weightedTerms(proposal, weights), {
          parameters: { branch, ...parameters },
          statement,
          group: `${cause} ${branch} ${JSON.stringify(parameters)}`,
        }),
      );
    },
  };
}

export const residualSearches: readonly Search[] = [
  weighing(["residual-dropped"], (branch) => [
    [
      "residual-dropped",
      [0, 1],
      `\`residual + ${branch}\` is absent: the residual is not added, each side may believe the other does it`,
    ],
  ]),
  weighing(["branch-dropped"], (branch) => [
    ["branch-dropped", [1, 0], `the ${branch} output is not added to the residual`],
  ]),
  weighing(["residual-subtracted"], (branch) => [
    ["residual-subtracted", [1, -1], `the ${branch} output is subtracted from the residual`],
  ]),
  weighing(["residual-doubled"], (branch, { investigation }) =>
    // Once for every rank of the run is a cause of its own.
    [2, 3, 4, 8]
      .filter((times) => times !== worldOf(investigation))
      .map((times) => [
        "residual-doubled",
        [times, 1],
        `in \`residual + ${branch}\` the residual is added ${times} times: on both sides of a seam, or on every rank`,
        { times },
      ]),
  ),
  weighing(["branch-scaled"], (branch) => [
    ...[2, 3, 4, 8].map(
      (times) =>
        [
          "branch-scaled",
          [1, times],
          `in \`residual + ${branch}\` the ${branch} output is added ${times} times: an all-reduce too many`,
          { times },
        ] as const,
    ),
    ...[0.5, 0.25].map(
      (share) =>
        [
          "branch-scaled",
          [1, share],
          `in \`residual + ${branch}\` only ${share} of the ${branch} output arrives: an all-reduce is missing`,
          { times: share },
        ] as const,
    ),
  ]),
  // Factors that embeddings are known to get.
  weighing(["residual-scaled"], (branch, { investigation }) => {
    const root = Math.sqrt(investigation.config.hiddenSize);
    return (
      [
        [root, "sqrt(hidden)"],
        [1 / root, "1/sqrt(hidden)"],
      ] as const
    ).map(([factor, recognised]) => [
      "residual-scaled",
      [factor, 1],
      `the residual that the ${branch} output is added to comes in multiplied by ${recognised}`,
      { factor: Number(factor.toPrecision(4)), recognised },
    ]);
  }),
  {
    causes: ["residual-scaled", "branch-scaled"],
    stage: "large",
    fits: true,
    // Beyond a norm every weight of both terms alike is the same.
    appliesTo: (proposal) => {
      const { site, finding, investigation } = proposal;
      return isSum(proposal) && site.layer === finding.node.layer && !investigation.isDeep(finding.node.name);
    },
    rewrites: fittedWeights,
  },
  { causes: ["residual-misdirected"], stage: "large", appliesTo: isSum, rewrites: otherStreams },
];

/** The sum with its terms weighted once more. A term that is neither 0 nor 1 times is stored on its way, or not: recipes tell. */
function weightedTerms({ site, investigation }: Proposal, weights: readonly [number, number]): GraphNode[] {
  const nodes: GraphNode[] = [];
  const inputs = [...site.inputs];
  const left = weights.map((weight, term) => {
    // Twice, half or not at all is exact.
    if (Number.isInteger(Math.log2(Math.abs(weight))) || weight === 0) return weight;
    const scaled: GraphNode = {
      ...investigation.graph.node(inputs[term]!),
      name: freshName(investigation.graph, `${site.name}.scaled ${term === 0 ? "residual" : "branch"}`),
      op: multiplied({ factor: weight }, () => weight),
      inputs: [inputs[term]!],
    };
    nodes.push(scaled);
    inputs[term] = scaled.name;
    return 1;
  });
  const own = site.op.attributes.weights as readonly number[];
  return [...nodes, replaced(site, { op: add(left.map((weight, term) => weight * own[term]!)), inputs })];
}

/** How much of the residual, or of the branch, was really added: the weight that leaves least. */
function fittedWeights(proposal: Proposal): Hypothesis[] {
  const branch = branchOf(proposal);
  return ([0, 1] as const).flatMap((term) => {
    const weights = (weight: number): [number, number] => (term === 0 ? [weight, 1] : [1, weight]);
    const fitted = fitNumber(proposal, 1, (weight) => weightedTerms(proposal, weights(weight)));
    if (!fitted || Math.abs(fitted.round - 1) < 1e-3) return [];
    const factor = fitted.round;
    const cause = term === 0 ? "residual-scaled" : "branch-scaled";
    return [
      hypothesis(cause, proposal.site, weightedTerms(proposal, weights(factor)), {
        fitted: 1,
        heldOut: (_, c) => c % 2 === 1,
        parameters: { branch, factor },
        statement: `${term === 0 ? `the residual that the ${branch} output is added to` : `the ${branch} output`} comes in multiplied by ${factor}`,
        group: `${cause} ${branch} ${factor}`,
      }),
    ];
  });
}

/** The residual is another value: normalised in place, or from before the last addition. */
function otherStreams(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  const branch = branchOf(proposal);
  const { graph } = investigation;
  const [stream, update] = site.inputs as [string, string];
  const out: Hypothesis[] = [];
  const candidates = new Map<string, string>();
  const extra = new Map<string, GraphNode>();
  for (const consumer of graph.consumers(stream)) {
    const norm = graph.node(consumer);
    if (norm.op.kind !== "rmsnorm") continue;
    candidates.set(consumer, "its normalised form: the norm worked in place");
    const attributes = norm.op.attributes as unknown as RmsNormAttributes;
    const unweighted: GraphNode = {
      ...norm,
      name: `${consumer}.unweighted`,
      op: rmsNorm({ ...attributes, weight: undefined }),
    };
    candidates.set(unweighted.name, "its normalised form without the weight: the norm worked in place");
    extra.set(unweighted.name, unweighted);
  }
  const source = graph.node(stream);
  if (source.op.kind === "add") {
    for (const input of source.inputs) {
      candidates.set(
        input,
        input === source.inputs[0]
          ? "the stream of before the last addition: that branch is lost"
          : "the last branch alone",
      );
    }
  }
  for (const [used, title] of candidates) {
    if (used === update) continue;
    out.push(
      hypothesis(
        "residual-misdirected",
        site,
        [...(extra.has(used) ? [extra.get(used)!] : []), replaced(site, { inputs: [used, update] })],
        {
          parameters: { branch, used: nameInLayer(extra.get(used) ?? graph.node(used)) || "stream" },
          statement: `the residual that the ${branch} output is added to is ${used}, ${title}`,
        },
      ),
    );
  }
  return out;
}
