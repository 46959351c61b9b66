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
  readonly #replaced: ReadonlyMap<string, GraphNode>;
  readonly #base: Graph | undefined;
  #nodes: ReadonlyMap<string, GraphNode> | undefined;
  #consumers: Map<string, string[]> | undefined;

  constructor(nodes: Iterable<GraphNode>, base?: Graph) {
    this.#replaced = new Map(Array.from(nodes, (node) => [node.name, node]));
    this.#base = base;
  }

  /** All nodes by name; a rewritten graph's own ones last where they are new. */
  get nodes(): ReadonlyMap<string, GraphNode> {
    this.#nodes ??= this.#base ? new Map([...this.#base.nodes, ...this.#replaced]) : this.#replaced;
    return this.#nodes;
  }

  find(name: string): GraphNode | undefined {
    return this.#replaced.get(name) ?? this.#base?.find(name);
  }

  /** @throws Error when the graph has no such value. */
  node(name: string): GraphNode {
    const node = this.find(name);
    if (!node) throw new Error(`the spec has no value "${name}"`);
    return node;
  }

  /** Values that read `name` directly. */
  consumers(name: string): readonly string[] {
    if (!this.#consumers) {
      this.#consumers = new Map();
      for (const node of this.nodes.values()) {
        for (const input of node.inputs) {
          const list = this.#consumers.get(input);
          if (list) list.push(node.name);
          else this.#consumers.set(input, [node.name]);
        }
      }
    }
    return this.#consumers.get(name) ?? [];
  }

  /** Whether `name` can be computed: every value on its way exists and none rests on itself. A rewrite may break that. */
  isComputable(name: string): boolean {
    const open = new Set<string>();
    const done = new Set<string>();
    const visit = (value: string): boolean => {
      if (done.has(value)) return true;
      if (open.has(value)) return false;
      open.add(value);
      const computable = this.find(value)?.inputs.every(visit) ?? false;
      open.delete(value);
      done.add(value);
      return computable;
    };
    return visit(name);
  }

  /** The same graph with some nodes replaced; replacements may also introduce new values. */
  with(replacements: Iterable<GraphNode>): Graph {
    return new Graph(replacements, this);
  }
}
