import type { GraphNode } from "../../spec/graph.js";
import type { Investigation } from "../check/investigation.js";
import type { CauseEntries } from "./cause-entry.js";
import { dropShares, isShare } from "./drop-share.js";
import type { Hypothesis } from "./hypothesis.js";
import { freshName, hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { multiplied, replaced } from "./transform.js";

/** Elements that must tell dropped from kept before anything is said. */
const enough = 64;

/** Elements that training drops. */
export const dropoutCauses = {
  dropout: {
    kind: "seam",
    transform: "T14",
    legend:
      "Dropout is left on: a random share of a branch or of the attention probabilities is zero, the rest larger.",
    hiddenBy: "rows with one key, in attention",
    confusedWith: ["element-wrong", "branch-scaled"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(dropoutCauses);

export const dropoutSearches: readonly Search[] = [
  {
    causes: ["dropout"],
    stage: "fitted",
    appliesTo: (proposal) => isRecorded(proposal) && proposal.site.op.kind === "add",
    rewrites: branchDropout,
  },
];

function branchDropout({ site, finding, investigation }: Proposal): Hypothesis[] {
  const [stream, branch] = site.inputs as [string, string];
  const { rows, columns, observed, noise } = finding.comparison;
  const { evaluator } = investigation;
  const base = evaluator.read(stream, rows, site.name, columns).value;
  const update = evaluator.read(branch, rows, site.name, columns).value;
  return dropShares.flatMap((share) => {
    const factor = 1 / (1 - share);
    let dropped = 0;
    let kept = 0;
    for (let i = 0; i < observed.length; i++) {
      const sigma = noise[i]!;
      if (!Number.isFinite(sigma) || Math.abs(update[i]!) < 40 * sigma) continue;
      const asDropped = Math.abs(observed[i]! - base[i]!);
      const asKept = Math.abs(observed[i]! - base[i]! - factor * update[i]!);
      if (Math.min(asDropped, asKept) > 10 * sigma) return [];
      if (asDropped < asKept) dropped++;
      else kept++;
    }
    if (dropped + kept < enough || !isShare(share, dropped, dropped + kept)) return [];
    return [droppedFrom(site, investigation, branch, share)];
  });
}

function droppedFrom(site: GraphNode, investigation: Investigation, branch: string, share: number): Hypothesis {
  const factor = 1 / (1 - share);
  const keeps = keptElements(investigation, site, factor);
  const thinned: GraphNode = {
    ...investigation.graph.node(branch),
    name: freshName(investigation.graph, `${site.name}.thinned branch`),
    op: multiplied({ dropped: share }, (row, column) => (keeps(row, column) ? factor : 0)),
    inputs: [branch],
  };
  return hypothesis("dropout", site, [thinned, replaced(site, { inputs: [site.inputs[0]!, thinned.name] })], {
    // Which elements are gone is read off the recording; that they are gone or larger, and nothing else, is the test.
    fitted: 1,
    parameters: { share },
    statement: `a random ${share} of the branch is zero and the rest divided by ${Number((1 - share).toFixed(2))}: dropout is left on`,
  });
}

/** Whether an element of the branch was kept, as the recorded sum says. */
function keptElements(
  investigation: Investigation,
  site: GraphNode,
  factor: number,
): (row: number, column: number) => boolean {
  const byRow = new Map<number, boolean[]>();
  return (row, column) => {
    let kept = byRow.get(row);
    if (!kept) {
      const [stream, branch] = site.inputs as [string, string];
      const only = Int32Array.of(row);
      const base = investigation.evaluator.read(stream, only, site.name).value;
      const update = investigation.evaluator.read(branch, only, site.name).value;
      const seen = investigation.observations.output(site.name, row)?.value;
      kept = Array.from(base, (x, i) =>
        seen ? Math.abs(seen[i]! - x) > Math.abs(seen[i]! - x - factor * update[i]!) : true,
      );
      byRow.set(row, kept);
    }
    return kept[column]!;
  };
}
