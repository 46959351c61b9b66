/**
 * Part of a decoder that a value belongs to: what stands before and after the layers, or a branch of the residual stream;
 * in a mixture of experts the chosen experts of each token, one slot after the other, and the expert that all tokens share.
 */
export type Block = "model" | "attention" | "mlp" | "experts" | "shared";

/** What a value is, in every family alike; a value that only some families have is absent from the others. */
export type What =
  /** Rows of the embedding table. */
  | "embedding"
  /** The stream as the first layer reads it, where the embedding is scaled first. */
  | "entry"
  /** The stream as it enters a layer's branch, normalised. */
  | "norm"
  /** What a branch gives back, normalised before it is added. */
  | "post-norm"
  /** What a branch gives back times the family's residual factor. */
  | "scaled"
  /** The residual stream after a branch was added. */
  | "stream"
  /** What a branch adds to the stream, as its module returns it. */
  | "branch"
  | "query"
  | "key"
  | "value"
  | "query-norm"
  | "key-norm"
  /** Queries and keys as attention reads them. */
  | "query-rotated"
  | "key-rotated"
  | "key-cache"
  | "value-cache"
  /** Values mixed by attention, before the output projection. */
  | "mixed"
  /** The projection that ends a branch. */
  | "output"
  /** What one rank adds to a sum over ranks. */
  | "term"
  | "gate"
  | "up"
  | "activated"
  /** Activated gate times up. */
  | "gated"
  /** A router's logits, the experts it chooses and their weights. */
  | "router"
  | "chosen"
  | "routing-weight"
  /** The weighted sum of the chosen experts, and what the shared one adds to it. */
  | "routed"
  | "shared"
  /** Logit of the gate over the shared expert, and its sigmoid. */
  | "shared-gate"
  | "shared-gate-open"
  /** The final norm. */
  | "last-norm"
  /** What the decoder returns, and the rows of it that go on to the logits. */
  | "hidden"
  | "gathered"
  | "logits"
  /** Logits that were scaled or capped. */
  | "final-logits"
  | "sample";

/** Where a value stands in the model. Which names a model's modules have is its family's business alone. */
export interface Place {
  readonly what: What;
  readonly block: Block;
  /** Decoder layer; absent before the first and after the last. */
  readonly layer?: number | undefined;
  /** Expert of a layer that has several. */
  readonly expert?: number | undefined;
}

/** A place and what its value is called. */
export interface Site extends Place {
  /** The value's own name. */
  readonly name: string;
  /** The same in every layer and expert, with `*` for their numbers: what repeats is known by it. */
  readonly role: string;
}

/** Something that has a name and belongs to a site: a value of the spec, or one that a rewrite made beside it. */
export interface Placed {
  readonly name: string;
  readonly site: Site;
}

/** What a value is called in every layer; a value that a rewrite made beside the site's own keeps its addition. */
export function roleOf({ name, site }: Placed): string {
  if (name === site.name) return site.role;
  return name.startsWith(site.name) ? site.role + name.slice(site.name.length) : `${site.role} as ${name}`;
}

/** Name and site of a value that belongs to no layer. */
export function outsideLayers(name: string, what: What): Placed {
  return { name, site: { name, role: name, block: "model", what } };
}
