import type { Graph, GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type Placed, roleOf } from "../../spec/site.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { CauseId } from "./catalogue.js";
import type { CauseEntries, CauseKind } from "./cause-entry.js";
import type { Hypothesis, ParameterValue } from "./hypothesis.js";
import type { Transform } from "./transforms.js";

/** What a search may look at when it proposes rewrites. */
export interface Proposal {
  readonly investigation: Investigation;
  /** The node to rewrite: the finding's own, or an unrecorded one it rests on. */
  readonly site: GraphNode;
  /** The failing unit. Fitted transforms apply when the site is its own node. */
  readonly finding: UnitCheck;
}

/** Where causes may sit, and the rewrites of the spec that would mean them. */
export interface Search {
  /** Every cause it may propose. */
  readonly causes: readonly CauseId[];
  /**
   * Whether its numbers are taken from the finding's elements. Of the others, those that change much are marked: where a
   * unit spans many ops small changes are not told apart, and these come first. Finer ones, of which there are many, are
   * asked for last there, and by themselves.
   */
  readonly stage: "large" | "named" | "fine" | "fitted";
  /** Whether a number of every rewrite is fitted to the finding's elements although the search stands with the named ones. */
  readonly fits?: boolean;
  /** Whether a site, as it was recorded or not, is one of them. */
  readonly appliesTo: (proposal: Proposal) => boolean;
  readonly rewrites: (proposal: Proposal) => Hypothesis[];
}

/** Sites whose op is of that kind. */
export function ofKind(...kinds: readonly string[]): Search["appliesTo"] {
  return ({ site }) => kinds.includes(site.op.kind);
}

/** Sites whose own value was recorded and is not what it should be. */
export function isRecorded({ site, finding }: Proposal): boolean {
  return site.name === finding.node.name;
}

export interface Description {
  readonly statement: string;
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
  readonly fitted?: number;
  readonly heldOut?: (row: number, column: number) => boolean;
  readonly group?: string;
  readonly transfer?: (op: Op) => Op;
  /** Where this rewrite is of another kind or class than its cause usually is. */
  readonly kind?: CauseKind;
  readonly transform?: Transform;
}

type Describe<T extends CauseEntries> = (
  cause: keyof T & CauseId,
  site: GraphNode,
  replacements: readonly GraphNode[],
  description: Description,
) => Hypothesis;

/** Says hypotheses about sites, of these causes; their group is the cause and its parameters, whatever the layer. */
export function hypothesesOf<T extends CauseEntries>(entries: T): Describe<T> {
  return (cause, site, replacements, description) => {
    const { parameters = {}, fitted = 0, statement } = description;
    const { kind, transform } = entries[cause]!;
    return {
      cause,
      kind: description.kind ?? kind,
      transform: description.transform ?? transform,
      site: site.name,
      parameters,
      replacements,
      fitted,
      heldOut: description.heldOut,
      transfer: description.transfer,
      statement,
      group: description.group ?? `${cause} ${fitted > 0 ? "" : JSON.stringify(parameters)}`,
    };
  };
}

/** A name that no value of the graph has: the second of two rewrites may introduce what the first did. */
export function freshName(graph: Graph, name: string): string {
  return graph.find(name) ? freshName(graph, `${name} again`) : name;
}

/** The last part of a value's name: q_proj, input_layernorm, … */
export function lastName(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

/** What a value is called within its layer: `self_attn.q_proj`; empty for what the layer itself returns. */
export function nameInLayer(value: Placed): string {
  const role = roleOf(value);
  const layer = role.indexOf("*");
  return layer < 0 ? role : role.slice(layer + 2);
}
