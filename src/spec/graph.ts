import type { Op } from "./op.js";

/** One value of the spec and the op that makes it. */
export interface GraphNode {
  /** Hugging Face module path of the value. */
  readonly name: string;
  readonly op: Op;
  /** Names of the values it reads. */
  readonly inputs: readonly string[];
  /** Channels per row; `heads` × head_dim when the value has heads. */
  readonly columns: number;
  readonly heads?: number;
  readonly layer?: number;
}

/** What the model means: ops over named values, in execution order. Immutable; `with` rewrites. */
export class Graph {
  readonly nodes: ReadonlyMap<string, GraphNode>;
  readonly #consumers = new Map<string, string[]>();

  constructor(nodes: Iterable<GraphNode>) {
    const map = new Map<string, GraphNode>();
    for (const node of nodes) map.set(node.name, node);
    this.nodes = map;
    for (const node of map.values()) {
      for (const input of node.inputs) {
        const list = this.#consumers.get(input);
        if (list) list.push(node.name);
        else this.#consumers.set(input, [node.name]);
      }
    }
  }

  /** @throws Error when the graph has no such value. */
  node(name: string): GraphNode {
    const node = this.nodes.get(name);
    if (!node) throw new Error(`the spec has no value "${name}"`);
    return node;
  }

  /** Values that read `name` directly. */
  consumers(name: string): readonly string[] {
    return this.#consumers.get(name) ?? [];
  }

  /** The same graph with some nodes replaced; replacements may also introduce new values. */
  with(replacements: Iterable<GraphNode>): Graph {
    const replaced = new Map(this.nodes);
    for (const node of replacements) replaced.set(node.name, node);
    return new Graph(replaced.values());
  }
}
