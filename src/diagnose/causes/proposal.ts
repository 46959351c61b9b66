import type { Graph, GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { CauseKind, Hypothesis, ParameterValue } from "./hypothesis.js";

/** What a family of causes may look at when it proposes rewrites. */
export interface Proposal {
  readonly investigation: Investigation;
  /** The node to rewrite: the finding's own, or an unrecorded one it rests on. */
  readonly site: GraphNode;
  /** The failing unit. Fitted transforms apply when the site is its own node. */
  readonly finding: UnitCheck;
}

/** A family of the catalogue: proposes rewrites of a site. */
export type CauseFamily = (proposal: Proposal) => Hypothesis[];

interface Description {
  readonly kind: CauseKind;
  readonly transform: string;
  readonly statement: string;
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
  readonly fitted?: number;
  readonly heldOut?: (row: number, column: number) => boolean;
  readonly group?: string;
  readonly transfer?: (op: Op) => Op;
}

/** A hypothesis about `site`; its group is its cause and its parameters, whatever the layer. */
export function hypothesis(
  cause: string,
  site: GraphNode,
  replacements: readonly GraphNode[],
  description: Description,
): Hypothesis {
  const { parameters = {}, fitted = 0, kind, transform, statement } = description;
  return {
    cause,
    kind,
    transform,
    site: site.name,
    parameters,
    replacements,
    fitted,
    heldOut: description.heldOut,
    transfer: description.transfer,
    statement,
    group: description.group ?? `${cause} ${fitted > 0 ? "" : JSON.stringify(parameters)}`,
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
