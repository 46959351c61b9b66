import type { GraphNode } from "../../spec/graph.js";
import type { ActivationName } from "../../spec/ops/activation.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import type { RmsNormAttributes } from "../../spec/ops/rmsnorm.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import { InputError } from "../../tensor/errors.js";

/** The ops that steps are made of, with their attributes as the spec declares them. */
interface AttributesOf {
  readonly embedding: { readonly weight: string };
  readonly rmsnorm: RmsNormAttributes;
  readonly linear: LinearAttributes;
  readonly rope: RopeAttributes;
  readonly append: object;
  readonly attention: AttentionAttributes;
  readonly scale: { readonly factor: number };
  readonly activation: { readonly activation: ActivationName };
  readonly multiply: object;
  readonly add: { readonly weights: readonly number[] };
}

export type StepOp = keyof AttributesOf;

/** Attributes that kernels carry out; any other, where it is set, changes what the op means. */
const understood: { readonly [Kind in StepOp]: readonly string[] } = {
  embedding: ["weight"],
  rmsnorm: ["weight", "epsilon", "width"],
  linear: ["weight", "bias"],
  rope: ["headDim", "rotaryDim", "inverseFrequencies", "attentionFactor", "pairing"],
  append: [],
  attention: ["heads", "keyValueHeads", "headDim", "scale", "softCap", "windowLeft"],
  scale: ["factor"],
  activation: ["activation"],
  multiply: [],
  add: ["weights"],
};

/** A node whose op is one of those that steps know, or undefined. */
export function stepOpOf(node: GraphNode): StepOp | undefined {
  return Object.hasOwn(understood, node.op.kind) ? (node.op.kind as StepOp) : undefined;
}

/**
 * The attributes of a node's op.
 * @throws InputError when the node asks for something that steps cannot say.
 */
export function attributesOf<Kind extends StepOp>(node: GraphNode, kind: Kind): AttributesOf[Kind] {
  if (node.op.kind !== kind) throw new Error(`${node.name} is no ${kind}`);
  for (const [name, value] of Object.entries(node.op.attributes)) {
    if (value !== undefined && !understood[kind].includes(name)) refuse(node, `${name} of ${kind}`);
  }
  return node.op.attributes as AttributesOf[Kind];
}

/** @throws InputError always: the paths on a device have no kernel for what `node` asks. */
export function refuse(node: GraphNode, what: string): never {
  throw new InputError(`${node.name}: the GPU paths have no kernel for ${what}`);
}
