import type { GraphNode } from "../../spec/graph.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { quantised } from "../../spec/ops/quantised.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { freshName, hypothesesOf, isRecorded, ofKind, type Proposal, type Search } from "./proposal.js";
import { cacheQuantisations, type NamedQuantisation } from "./quantisation-table.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";

/** Keys or values in narrow numbers. */
export const quantisedCacheCauses = {
  "cache-rounded": {
    kind: "state",
    transform: "T9",
    legend: "Keys or values went through a narrow type on their way to attention.",
    hiddenBy: "noise of a unit over several ops",
    confusedWith: ["probabilities-quantised", "cache-scale"],
    report: ["NVIDIA/TensorRT-LLM#2699", "an fp8 cache lost quality by how its scales were handled"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(quantisedCacheCauses);

export const quantisedCacheSearches: readonly Search[] = [
  {
    causes: ["cache-rounded"],
    stage: "fine",
    appliesTo: ofKind("attention"),
    rewrites: attended,
  },
  {
    causes: ["cache-rounded"],
    stage: "named",
    appliesTo: (proposal) => proposal.site.op.kind === "append" && !proposal.site.op.stored && isRecorded(proposal),
    rewrites({ site, investigation }) {
      const source = investigation.graph.node(site.inputs[0]!);
      return cacheQuantisations(investigation.config.headDim, storeType(investigation)).map((quantisation) => {
        const narrow: GraphNode = {
          ...source,
          name: freshName(investigation.graph, `${site.name}.quantised`),
          op: quantised(quantisation),
          inputs: [source.name],
        };
        return rounded(site, [narrow, replaced(site, { inputs: [narrow.name] })], quantisation);
      });
    },
  },
];

function rounded(site: GraphNode, replacements: GraphNode[], quantisation: NamedQuantisation, of?: string): Hypothesis {
  const { parameters, title } = quantisation;
  return hypothesis("cache-rounded", site, replacements, {
    parameters: of ? { ...parameters, of } : parameters,
    statement: `${of ?? "what the cache keeps"} went through ${title}`,
  });
}

function attended({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const { headDim } = site.op.attributes as unknown as AttentionAttributes;
  const [q, k, v] = site.inputs as [string, string, string];
  const recorded = [k, v].map((name) => observations.has(name));
  const through = (name: string, quantisation: NamedQuantisation): GraphNode => ({
    ...graph.node(name),
    name: freshName(graph, `${site.name}.quantised ${name === k ? "keys" : "values"}`),
    op: quantised(quantisation),
    inputs: [name],
  });
  return cacheQuantisations(headDim, storeType(investigation)).flatMap((quantisation) =>
    (
      [
        [[k, v], "keys and values"],
        [[k], "keys"],
        [[v], "values"],
      ] as const
    ).flatMap(([changed, what]) => {
      // A cache that was recorded shows by itself what it holds.
      if (changed.some((name) => recorded[name === k ? 0 : 1])) return [];
      const nodes = new Map<string, GraphNode>(changed.map((name) => [name, through(name, quantisation)]));
      const inputs = [q, ...[k, v].map((name) => nodes.get(name)?.name ?? name)];
      return [rounded(site, [...nodes.values(), replaced(site, { inputs })], quantisation, what)];
    }),
  );
}
