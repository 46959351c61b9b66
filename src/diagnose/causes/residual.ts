import type { GraphNode } from "../../spec/graph.js";
import { add } from "../../spec/ops/add.js";
import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import { fitNumber } from "./fitted-number.js";
import type { Hypothesis } from "./hypothesis.js";
import { type CauseFamily, freshName, hypothesis, type Proposal } from "./proposal.js";
import { multiplied, replaced } from "./transform.js";

/** The residual stream: terms dropped, doubled, subtracted or taken from elsewhere. */
export const residualCauses: CauseFamily = (proposal) => {
  const { site } = proposal;
  if (site.op.kind !== "add") return [];
  const branch = site.inputs[1]!.endsWith("self_attn") ? "attention" : "mlp";
  const which = branch === "attention" ? "`residual + attention`" : "`residual + mlp`";
  const weighted = (cause: string, weights: [number, number], statement: string, parameters = {}) =>
    hypothesis(cause, site, weightedTerms(proposal, weights), {
      kind: "seam",
      transform: "T11",
      parameters: { branch, ...parameters },
      statement,
      group: `${cause} ${branch} ${JSON.stringify(parameters)}`,
    });
  const out = [
    weighted(
      "residual-dropped",
      [0, 1],
      `${which} is absent: the residual is not added, each side may believe the other does it`,
    ),
    weighted("branch-dropped", [1, 0], `the ${branch} output is not added to the residual`),
    weighted("residual-subtracted", [1, -1], `the ${branch} output is subtracted from the residual`),
  ];
  for (const times of [2, 3, 4, 8]) {
    out.push(
      weighted(
        "residual-doubled",
        [times, 1],
        `in ${which} the residual is added ${times} times: on both sides of a seam, or on every rank`,
        { times },
      ),
      weighted(
        "branch-scaled",
        [1, times],
        `in ${which} the ${branch} output is added ${times} times: an all-reduce too many`,
        { times },
      ),
    );
  }
  for (const share of [0.5, 0.25]) {
    out.push(
      weighted(
        "branch-scaled",
        [1, share],
        `in ${which} only ${share} of the ${branch} output arrives: an all-reduce is missing`,
        { times: share },
      ),
    );
  }
  return [
    ...out,
    ...namedScales(proposal, branch, weighted),
    ...fittedWeights(proposal, branch),
    ...otherStreams(proposal, branch),
  ];
};

/** The stream comes in multiplied by a factor that embeddings are known to get. */
function namedScales(
  { investigation }: Proposal,
  branch: string,
  weighted: (cause: string, weights: [number, number], statement: string, parameters?: object) => Hypothesis,
): Hypothesis[] {
  const root = Math.sqrt(investigation.config.hiddenSize);
  return [
    [root, "sqrt(hidden)"],
    [1 / root, "1/sqrt(hidden)"],
  ].map(([factor, name]) =>
    weighted(
      "residual-scaled",
      [factor as number, 1],
      `the residual that the ${branch} output is added to comes in multiplied by ${name}`,
      {
        factor: Number((factor as number).toPrecision(4)),
        recognised: name,
      },
    ),
  );
}

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
function fittedWeights(proposal: Proposal, branch: string): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  // Beyond a norm every weight of both terms alike is the same.
  if (site.layer !== finding.node.layer || investigation.isDeep(finding.node.name)) return [];
  return ([0, 1] as const).flatMap((term) => {
    const weights = (weight: number): [number, number] => (term === 0 ? [weight, 1] : [1, weight]);
    const fitted = fitNumber(proposal, 1, (weight) => weightedTerms(proposal, weights(weight)));
    if (!fitted || Math.abs(fitted.round - 1) < 1e-3) return [];
    const factor = fitted.round;
    const cause = term === 0 ? "residual-scaled" : "branch-scaled";
    return [
      hypothesis(cause, site, weightedTerms(proposal, weights(factor)), {
        kind: "seam",
        transform: "T11",
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
function otherStreams({ site, investigation }: Proposal, branch: string): Hypothesis[] {
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
          kind: "seam",
          transform: "T12",
          parameters: { branch, used: used.replace(/^.*\.layers\.\d+\.?/, "") || "stream" },
          statement: `the residual that the ${branch} output is added to is ${used}, ${title}`,
        },
      ),
    );
  }
  return out;
}
