import type { KnownName } from "../importers/dump.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import { flashinferValues } from "./flashinfer-names.js";

/** How the spec's own names are found: a fault may give their tensors another value's bits, but not another meaning. */
const [ownName, ownEnd] = ["its name", "the end of its name"];
export const ownNames: ReadonlySet<string | undefined> = new Set([ownName, ownEnd]);

/** What a name is known to mean, and from where. */
export interface Meaning {
  readonly values: readonly KnownName[];
  /** For people. */
  readonly evidence: string;
}

/** What else a dump holds, which may decide what a name means. */
export interface Neighbours {
  /** Whether a tensor's name contains this. */
  has(part: string): boolean;
  /** The shape of the tensor of this name. */
  shapeOf(name: string): readonly number[] | undefined;
  /** How many calls of a family a step of FlashInfer's has. */
  calls(family: string): number;
}

/**
 * What a tensor's name says by itself: the spec's own names, with prefixes and endings that recorders add, and those of the
 * fused modules of SGLang and vLLM, whose classes say what they return.
 * @param columns of the tensor.
 */
export function meaningOf(name: string, columns: number, graph: Graph, beside: Neighbours): Meaning | undefined {
  const called = flashinferValues(name, graph, beside);
  if (called) return { values: called, evidence: "the order of FlashInfer's calls" };
  const plain = withoutWrapping(name);
  const module = plain.replace(/\.output$/, "");
  const fused =
    fusedValues(module, columns, graph, beside) ?? inputOf(module, graph) ?? returned(module, name, graph, beside);
  if (fused) return { values: fused, evidence: "its name, as serving stacks call it" };
  if (!graph.find(module) && ![...graph.parts.values()].some((part) => part.name === module)) return undefined;
  return { values: [{ value: module }], evidence: module === name ? ownName : ownEnd };
}

/** The name of the module's path in the model: recorders put their own words before and behind. */
function withoutWrapping(name: string): string {
  const bare = name
    .replace(/^(?:module\.|_orig_mod\.|base_model\.|language_model\.)+/, "")
    .replace(/^model\.(?=model\.)/, "");
  if (/^(?:layers\.\d+|embed_tokens|norm)(?:\.|$)/.test(bare)) return `model.${bare}`;
  // Whatever stands before, a path in the model is one.
  return /(?:^|[./])(model\.(?:layers\.\d|embed_tokens|norm).*)$/.exec(bare)?.[1] ?? bare;
}

/** Values that one module of a serving stack computes at once, or under a name of another meaning. */
function fusedValues(module: string, columns: number, graph: Graph, beside: Neighbours): KnownName[] | undefined {
  const found = /^(model\.layers\.\d+)\.(.+)$/.exec(module);
  if (!found) return undefined;
  const [, layer, part] = found as unknown as [string, string, string];
  const sideBySide = (...names: string[]) => {
    const nodes = names.map((each) => graph.find(`${layer}.${each}`));
    if (nodes.some((node) => node === undefined)) return undefined;
    let first = 0;
    const values = (nodes as GraphNode[]).map(({ name, columns: own }) => {
      first += own;
      return { value: name, columns: [first - own, own] as const };
    });
    return first === columns ? values : undefined;
  };
  switch (part) {
    case "self_attn.qkv_proj":
      return sideBySide("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj");
    case "mlp.gate_up_proj":
      return sideBySide("mlp.gate_proj", "mlp.up_proj");
    case "mlp.act_fn":
      // Of gate and up in one tensor: what it returns is their product.
      return beside.has("gate_up_proj") && graph.find(`${layer}.mlp.down_proj.input`)
        ? [{ value: `${layer}.mlp.down_proj.input` }]
        : undefined;
    case "self_attn.attn":
    case "self_attn.attn.impl":
      return [{ value: `${layer}.self_attn.o_proj.input` }];
    case "self_attn.rotary_emb.0":
    case "self_attn.rotary_emb.output.0":
      return [{ value: `${layer}.self_attn.q_rope` }];
    case "self_attn.rotary_emb.1":
    case "self_attn.rotary_emb.output.1":
      return [{ value: `${layer}.self_attn.k_rope` }];
    default:
      return undefined;
  }
}

/** What a module returns beside others: a norm that adds its residual first, and a layer that leaves the adding to the next. */
function returned(module: string, name: string, graph: Graph, beside: Neighbours): KnownName[] | undefined {
  if (/^(?:(?:logits_processor\.)?(?:output\.)?next_token_logits|logits_processor|logits)$/.test(module)) {
    const logits = graph.at({ what: "final-logits" }) ?? graph.at({ what: "logits" });
    return logits && [{ value: logits.name }];
  }
  const found = /^(.+?)(?:\.output)?\.([01])$/.exec(module);
  const node = found && graph.find(found[1]!);
  if (!found || !node) return undefined;
  const isSecond = found[2] === "1";
  if (node.op.kind === "rmsnorm") return [{ value: isSecond ? node.inputs[0]! : node.name }];
  // A layer that leaves the adding to the next one returns two streams; alone, the first is what the module returns.
  const [own, twin] = [beside.shapeOf(name), beside.shapeOf(`${name.slice(0, -1)}${isSecond ? 0 : 1}`)];
  const isPair = node.site.what === "stream" && node.site.block === "mlp" && String(own) === String(twin);
  if (!isPair) return isSecond ? undefined : [{ value: node.name }];
  const { layer } = node;
  const branch =
    graph.at({ what: "post-norm", block: "mlp", layer }) ?? graph.at({ what: "branch", block: "mlp", layer });
  const stream = graph.at({ what: "stream", block: "attention", layer });
  const value = isSecond ? stream : branch;
  return value && [{ value: value.name }];
}

/** What a product read: the input of its module as a hook before it sees it. */
function inputOf(module: string, graph: Graph): KnownName[] | undefined {
  const found = /^(.+)\.inputs\.(?:0|x|input|input_|hidden_states)$/.exec(module);
  if (!found) return undefined;
  const name = found[1]!.replace(/\.qkv_proj$/, ".q_proj").replace(/\.gate_up_proj$/, ".gate_proj");
  const node = graph.find(name);
  if (node?.op.kind !== "linear") return undefined;
  const by = name === found[1] ? name.slice(name.lastIndexOf(".") + 1) : undefined;
  return [{ value: node.inputs[0]!, role: "input", by }];
}
