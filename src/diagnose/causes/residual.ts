import type { GraphNode } from "../../spec/graph.js";
import { add } from "../../spec/ops/add.js";
import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import type { Hypothesis } from "../hypothesis.js";
import { replaced } from "../transform.js";
import { type CauseFamily, hypothesis, type Proposal } from "./proposal.js";

/** The residual stream: terms dropped, doubled, subtracted or taken from elsewhere. */
export const residualCauses: CauseFamily = (proposal) => {
  const { site } = proposal;
  if (site.op.kind !== "add") return [];
  const branch = site.inputs[1]!.endsWith("self_attn") ? "attention" : "mlp";
  const which = branch === "attention" ? "`residual + attention`" : "`residual + mlp`";
  const weighted = (cause: string, weights: [number, number], statement: string, parameters = {}) =>
    hypothesis(cause, site, [replaced(site, { op: add(weights) })], {
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
  return [...out, ...otherStreams(proposal, branch)];
};

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
