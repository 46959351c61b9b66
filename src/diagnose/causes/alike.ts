import type { GraphNode } from "../../spec/graph.js";
import type { Hypothesis } from "../hypothesis.js";
import { lastName, type Proposal } from "./proposal.js";

/** Values that the same code computes beside each other: what is written wrongly for one is so for the others. */
const siblings: readonly (readonly string[])[] = [
  ["q_proj", "k_proj", "v_proj"],
  ["q_proj", "k_proj"],
  ["k_proj", "v_proj"],
  ["q_norm", "k_norm"],
  ["q_rope", "k_rope"],
  ["k_cache", "v_cache"],
  ["gate_proj", "up_proj"],
  ["input_layernorm", "post_attention_layernorm"],
];

/**
 * The same rewrite of a site and of its siblings at once. A recorded sibling says by itself what is wrong with it, so this is
 * for units that span them: there one alone explains nothing.
 */
export function alike(proposal: Proposal, proposed: (proposal: Proposal) => readonly Hypothesis[]): Hypothesis[] {
  const { site, investigation, finding } = proposal;
  const own = lastName(site.name);
  const sets = siblings.filter(([first]) => first === own);
  if (sets.length === 0 || site.name === finding.node.name || investigation.hasBits(finding.node.name)) return [];
  const inside = new Set(investigation.interior(finding.node.name).map(({ name }) => name));
  const first = proposed(proposal).filter(({ fitted }) => fitted === 0);
  return sets.flatMap((names) => {
    const others = names.slice(1).map((name) => `${site.name.slice(0, -own.length)}${name}`);
    if (!others.every((name) => inside.has(name))) return [];
    const rest = others.map((name) =>
      byGroup(proposed({ ...proposal, site: investigation.graph.node(name) }).filter(({ fitted }) => fitted === 0)),
    );
    return first.flatMap((hypothesis) => {
      const same = rest.map((groups) => groups.get(hypothesis.group));
      if (same.some((other) => other === undefined)) return [];
      return [together([hypothesis, ...(same as Hypothesis[])], names)];
    });
  });
}

function byGroup(hypotheses: readonly Hypothesis[]): Map<string, Hypothesis> {
  return new Map(hypotheses.map((hypothesis) => [hypothesis.group, hypothesis]));
}

function together(members: readonly Hypothesis[], names: readonly string[]): Hypothesis {
  const [first] = members as [Hypothesis];
  const replacements = new Map<string, GraphNode>();
  for (const node of members.flatMap((member) => member.replacements)) replacements.set(node.name, node);
  return {
    ...first,
    replacements: [...replacements.values()],
    parameters: { ...first.parameters, of: names.join(", ") },
    statement: `${first.statement} (${names.join(" and ")} alike)`,
    group: `${first.group} in ${names.join(", ")}`,
  };
}
