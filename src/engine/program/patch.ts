import type { DeclaredParameter } from "../../spec/families/declaration.js";
import type { Graph, GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { declareDecoder, declaredParameters, decoderGraph } from "../../spec/models/decoder.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import { type ChangedParameter, overlayParameters } from "../../tensor/changed-parameters.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { InputError } from "../../tensor/errors.js";
import type { Fusions } from "./fusions.js";
import { hasKernel } from "./standard-program.js";

/** A model as a patch finds it: with the patches before it. */
export interface PatchableModel {
  readonly config: ModelConfig;
  readonly graph: Graph;
  readonly parameters: ParameterReader;
}

/** What a patch makes of a model. */
export interface Rewrite {
  /** Values of the spec that are replaced or added. */
  readonly nodes?: readonly GraphNode[];
  /** Parameters that are held otherwise, or that the checkpoint does not have. */
  readonly parameters?: ReadonlyMap<string, ChangedParameter>;
  /** Values that the spec itself computes, on the host; nothing changes on the reference path, which is the spec. */
  readonly onHost?: readonly string[];
  /** Fusions left out; nothing changes on paths without them. */
  readonly without?: readonly (keyof Fusions)[];
}

/**
 * A change to a running engine: the same object on the reference path and on every device. What it changes it names in
 * the spec's words, so that steps, captures and fusions follow.
 */
export interface Patch {
  readonly title: string;
  /** @throws InputError when the model has nothing that it could change. */
  rewrite(model: PatchableModel): Rewrite;
}

/** A model with patches in it, as paths take it. */
export interface PatchedModel extends PatchableModel {
  readonly changed: ReadonlyMap<string, ChangedParameter>;
  /** Biases that patches give to products without one. */
  readonly added: readonly DeclaredParameter[];
  /** Values that devices leave to the host: those that a patch leaves to it, and patched ones that no kernel means. */
  readonly onHost: ReadonlySet<string>;
  readonly without: ReadonlySet<keyof Fusions>;
}

/**
 * Puts patches into a model, one after the other.
 * @throws InputError when one of them cannot be put into it.
 */
export function patchModel(config: ModelConfig, checkpoint: ParameterReader, patches: readonly Patch[]): PatchedModel {
  const base = decoderGraph(config);
  const declared = declaredParameters(config, checkpoint);
  const changed = new Map<string, ChangedParameter>();
  const asked = new Set<string>();
  const without = new Set<keyof Fusions>();
  let graph = base;
  const parameters = overlayParameters(declared, changed);
  for (const patch of patches) {
    const rewrite = patch.rewrite({ config, graph, parameters });
    graph = graph.with(rewrite.nodes ?? []);
    for (const [name, parameter] of rewrite.parameters ?? []) changed.set(name, parameter);
    for (const name of rewrite.onHost ?? []) asked.add(name);
    for (const fusion of rewrite.without ?? []) without.add(fusion);
  }
  if (!graph.isComputable("sample"))
    throw new InputError(
      `${patches.map(({ title }) => title).join(", ")}: a value would be read that is computed later: it cannot be put into a running path`,
    );
  const onHost = new Set(asked);
  for (const node of graph.nodes.values()) {
    const own = base.find(node.name);
    if (own === node) continue;
    if (own?.op.kind === "argmax")
      throw new InputError(`${node.name}: expected a patch of a value, the choice of a token is the sampler's`);
    if (!hasKernel(node, graph)) onHost.add(node.name);
  }
  return { config, graph, parameters, changed, added: addedBiases(config, graph), onHost, without };
}

/** Biases of the graph's products that the model does not declare. */
function addedBiases(config: ModelConfig, graph: Graph): DeclaredParameter[] {
  const declared = new Set(declareDecoder(config).parameters.map(({ name }) => name));
  const added: DeclaredParameter[] = [];
  for (const { op, site, columns, layer } of graph.nodes.values()) {
    const { bias } = op.attributes as Partial<LinearAttributes>;
    if (op.kind !== "linear" || bias === undefined || declared.has(bias)) continue;
    added.push({ name: bias, kind: "projection", layer, site, isBias: true, shape: [columns], part: undefined });
  }
  return added;
}
