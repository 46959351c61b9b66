import type { Graph } from "../../spec/graph.js";
import { roleOf } from "../../spec/site.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { replaced, taken } from "./transform.js";

const maxCandidates = 80;

/** Whole values that stand in another's place. */
export const otherValueCauses = {
  "value-replaced": {
    kind: "state",
    transform: "T12",
    legend: "The whole value is another recorded one: a buffer of another layer, an earlier stage, the wrong port.",
    hiddenBy: "never",
    confusedWith: ["operand-swapped", "record-overwritten"],
    report: ["ggml-org/llama.cpp#2699", "an allocator gave one buffer to two values without a barrier"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(otherValueCauses);

export const otherValueSearches: readonly Search[] = [
  {
    causes: ["value-replaced"],
    stage: "named",
    appliesTo: (proposal) => isRecorded(proposal) && !["identity", "append"].includes(proposal.site.op.kind),
    rewrites: otherValues,
  },
];

function otherValues({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const read = new Set(site.inputs.flatMap((name) => [name, ...sourcesOf(graph, name)]));
  const out: Hypothesis[] = [];
  for (const node of graph.nodes.values()) {
    // Only what exists by then: a later value could not stand here.
    if (out.length >= maxCandidates || node.name === site.name) break;
    if (node.columns !== site.columns || node.heads !== site.heads) continue;
    // What the site reads is what it passes on when it does nothing: the op's own family says that better.
    if (read.has(node.name) || !observations.has(node.name) || ["identity", "append"].includes(node.op.kind)) continue;
    const distance = (node.layer ?? 0) - (site.layer ?? 0);
    // A sum that is another layer's has lost a term: its own causes say that better.
    const sameRole = site.op.kind !== "add" && roleOf(node) === roleOf(site);
    if (!sameRole && distance !== 0) continue;
    out.push(
      hypothesis("value-replaced", site, [replaced(site, { op: taken({ used: node.name }), inputs: [node.name] })], {
        // What an op computes explains better than that two values are the same.
        fitted: 1,
        parameters: { used: node.name },
        statement: `what stands here is ${node.name}, unchanged: another buffer was written or read`,
        group: `value-replaced ${lastName(node.name)} ${distance}`,
      }),
    );
  }
  return out;
}

/** The values that `name` is another name of. */
function sourcesOf(graph: Graph, name: string): string[] {
  const node = graph.node(name);
  return node.op.kind === "identity" || node.op.kind === "append"
    ? [node.inputs[0]!, ...sourcesOf(graph, node.inputs[0]!)]
    : [];
}
