import type { Op } from "./op.js";
import type { Place, Placed, Site } from "./site.js";

/** One value of the spec and the op that makes it. */
export interface GraphNode extends Placed {
  /** Hugging Face module path of the value. */
  readonly name: string;
  /** Where it stands in the model; a value that a rewrite introduces keeps the site of the one it was made from. */
  readonly site: Site;
  readonly op: Op;
  /** Names of the values it reads. */
  readonly inputs: readonly string[];
  /** Channels per row; `heads` × head_dim when the value has heads. */
  readonly columns: number;
  readonly heads?: number;
  readonly layer?: number;
}

/** Enough to find a site: in attention and MLP alike, `block` tells the two apart where both have such a value. */
export type Wanted = Pick<Place, "what" | "layer" | "expert"> & Partial<Pick<Place, "block">>;

/** Rows or columns of something larger: which of them, and what the whole is called. */
export interface Part {
  /** The whole's own name. */
  readonly name: string;
  /** Its first row or column that belongs to the part. */
  readonly first: number;
  /** Rows or columns of the whole. */
  readonly of: number;
}

/** What the model means: ops over named values, in execution order. Immutable; `with` rewrites. */
export class Graph {
  readonly #replaced: ReadonlyMap<string, GraphNode>;
  readonly #base: Graph | undefined;
  #nodes: ReadonlyMap<string, GraphNode> | undefined;
  #consumers: Map<string, string[]> | undefined;
  #names: Map<string, string> | undefined;

  /** @param parts of values that modules return together with others, by the values' names. */
  constructor(
    nodes: Iterable<GraphNode>,
    base?: Graph,
    readonly parts: ReadonlyMap<string, Part> = base?.parts ?? new Map(),
  ) {
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

  /** The value at a place, as a rewrite left it; undefined where the family has none. */
  at(wanted: Wanted): GraphNode | undefined {
    const name = this.#nameAt(wanted);
    return name === undefined ? undefined : this.find(name);
  }

  /** The values of one kind in all layers and experts, in order. */
  all(what: Place["what"], block?: Place["block"]): GraphNode[] {
    return [...this.nodes.values()].filter(
      ({ name, site }) => site.name === name && site.what === what && (!block || site.block === block),
    );
  }

  /** The value at the same site of another layer. */
  inLayer({ site }: Placed, layer: number): GraphNode | undefined {
    return this.at({ ...site, layer });
  }

  /** The residual stream that `layer` reads: the last sum of the layer before, or what the first layer is given. */
  streamBefore(layer: number): GraphNode {
    const stream =
      layer > 0
        ? this.at({ what: "stream", block: "mlp", layer: layer - 1 })
        : (this.at({ what: "entry" }) ?? this.at({ what: "embedding" }));
    if (!stream) throw new Error(`the spec has no layer ${layer}`);
    return stream;
  }

  /** The residual stream that `layer` leaves; undefined where there is no such layer. */
  streamAfter(layer: number): GraphNode | undefined {
    return this.at({ what: "stream", block: "mlp", layer });
  }

  /** Sites are those of the graph that all rewrites began with. */
  #nameAt(wanted: Wanted): string | undefined {
    if (this.#base) return this.#base.#nameAt(wanted);
    if (!this.#names) {
      this.#names = new Map();
      for (const { name, site } of this.nodes.values()) {
        this.#names.set(keyOf(site), name);
        const unspecific = keyOf({ ...site, block: undefined });
        if (!this.#names.has(unspecific)) this.#names.set(unspecific, name);
      }
    }
    return this.#names.get(keyOf(wanted));
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

function keyOf({ what, block, layer, expert }: { [P in keyof Wanted]: Wanted[P] | undefined }): string {
  return `${what} ${block ?? ""} ${layer ?? ""} ${expert ?? ""}`;
}
