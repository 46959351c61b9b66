import type { CauseId } from "../causes/catalogue.js";
import type { ExplainedFinding } from "./explainer.js";
import type { Explanation } from "./explanation.js";

/** One cause with the findings it explains: the explanations of all of them belong to one group. */
export interface CauseGroup {
  readonly group: string;
  /** Index of the finding → its explanation by this cause. */
  readonly members: Map<number, Explanation>;
  /** Other causes that explain every member as well. */
  readonly alternatives: CauseId[];
}

/**
 * The fewest causes that explain all findings: the group that explains most of what is left is taken first. A finding
 * that several causes explain goes to the one that other findings need anyway.
 */
export function groupCauses(findings: readonly ExplainedFinding[]): CauseGroup[] {
  const all = new Map<string, Map<number, Explanation>>();
  findings.forEach(({ explanations }, index) => {
    for (const explanation of explanations) {
      const key = keyOf(explanation);
      let members = all.get(key);
      if (!members) {
        members = new Map();
        all.set(key, members);
      }
      if (!members.has(index)) members.set(index, explanation);
    }
  });
  const left = new Set(findings.keys());
  const groups: CauseGroup[] = [];
  while (left.size > 0) {
    let best: [string, Map<number, Explanation>] | undefined;
    let bestCount = 0;
    for (const entry of all) {
      const count = [...entry[1].keys()].filter((index) => left.has(index)).length;
      if (count > bestCount) {
        best = entry;
        bestCount = count;
      }
    }
    if (!best) break;
    const members = new Map([...best[1]].filter(([index]) => left.has(index)));
    const alternatives = [...all].filter(
      ([key, other]) =>
        key !== best[0] &&
        causeOf(other) !== causeOf(best[1]) &&
        [...members.keys()].every((index) => other.has(index)),
    );
    groups.push({
      group: best[0],
      members,
      alternatives: [...new Set(alternatives.map(([, other]) => causeOf(other)))],
    });
    for (const index of members.keys()) left.delete(index);
  }
  return groups.sort((a, b) => Math.min(...a.members.keys()) - Math.min(...b.members.keys()));
}

function keyOf({ hypothesis }: Explanation): string {
  const also = hypothesis.also ? ` + ${hypothesis.also.group}` : "";
  return `${hypothesis.group}${also}`;
}

function causeOf(members: ReadonlyMap<number, Explanation>): CauseId {
  const [first] = members.values();
  return first!.hypothesis.cause;
}
