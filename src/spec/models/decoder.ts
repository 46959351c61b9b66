import type { ParameterReader } from "../../tensor/checkpoint.js";
import { attentionBranch } from "../families/attention-branch.js";
import { Declaration, type DeclaredParameter, LayerScope } from "../families/declaration.js";
import { gatedMlp } from "../families/gated-mlp.js";
import { norm } from "../families/pieces.js";
import { unpackedParameters } from "../families/unpacked-parameters.js";
import { Graph } from "../graph.js";
import { add } from "../ops/add.js";
import { argmax } from "../ops/argmax.js";
import { embedding } from "../ops/embedding.js";
import { identity } from "../ops/identity.js";
import { linear } from "../ops/linear.js";
import { scale } from "../ops/scale.js";
import { select } from "../ops/select.js";
import { softCap } from "../ops/soft-cap.js";
import { outsideLayers } from "../site.js";
import type { BranchNorms, ModelConfig } from "./config.js";

const table = "model.embed_tokens.weight";

/** The decoder of `config`: from token ids to the sampled token, with every parameter on the way. */
export function declareDecoder(config: ModelConfig): Declaration {
  const declaration = new Declaration();
  declaration.parameter(table, "projection", [config.vocabularySize, config.hiddenSize]);
  let stream = entry(declaration, config);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const scope = new LayerScope(declaration, layer);
    const { attention, mlp } = config.norms;
    // The sum in the middle is no module's result: it is called after the module that reads it.
    const middle = `${mlp.before ?? "mlp"}.input`;
    stream = branch(scope, config, stream, attention, { block: "attention", sum: middle, of: attentionBranch });
    stream = branch(scope, config, stream, mlp, { block: "mlp", sum: "", of: config.feedForward?.(layer) ?? gatedMlp });
  }
  exit(declaration, config, stream);
  return declaration;
}

/** The spec of a decoder. */
export function decoderGraph(config: ModelConfig): Graph {
  const { nodes, parts } = declareDecoder(config);
  return new Graph(nodes, undefined, parts);
}

/** The checkpoint of `config` as the spec reads it: parameters that it keeps packed come one by one. */
export function declaredParameters(config: ModelConfig, checkpoint: ParameterReader): ParameterReader {
  return config.packedProjections ? unpackedParameters(declareDecoder(config).parameters, checkpoint) : checkpoint;
}

const kinds: readonly DeclaredParameter["kind"][] = ["norm", "projection", "head-norm"];

/**
 * Parameter names that the checkpoint of `config` must hold, with their shapes: those outside the layers first, then layer
 * by layer norms of the stream, projections, norms of heads.
 */
export function expectedParameters(config: ModelConfig): Map<string, readonly number[]> {
  const place = ({ layer, kind }: DeclaredParameter) =>
    layer === undefined ? 0 : kinds.length * (layer + 1) + kinds.indexOf(kind);
  const sorted = [...declareDecoder(config).parameters].sort((a, b) => place(a) - place(b));
  return new Map(
    sorted.map(({ name, shape, part }) => (part ? [part.name, [part.of, ...shape.slice(1)]] : [name, shape])),
  );
}

/** Name of the parameter lm_head multiplies with. */
export function outputWeight(config: ModelConfig): string {
  return config.tiedEmbeddings ? table : "lm_head.weight";
}

interface Branch {
  readonly block: "attention" | "mlp";
  /** What the sum behind it is called within the layer. */
  readonly sum: string;
  readonly of: (scope: LayerScope, config: ModelConfig, input: string) => string;
}

/** stream + factor · after(branch(before(stream))): the name of the sum. */
function branch(scope: LayerScope, config: ModelConfig, stream: string, norms: BranchNorms, own: Branch): string {
  const { declaration } = scope;
  const { hiddenSize, residualScale } = config;
  const { block } = own;
  const size = { columns: hiddenSize };
  const normed = (module: string | undefined, what: "norm" | "post-norm", input: string) =>
    module === undefined ? input : norm(declaration, config, scope.place(module, what, block), input, size, hiddenSize);
  const output = own.of(scope, config, normed(norms.before, "norm", stream));
  let added = normed(norms.after, "post-norm", output);
  if (residualScale !== 1) {
    const module = block === "attention" ? "self_attn" : "mlp";
    added = declaration.value(scope.place(`${module}.scaled`, "scaled", block), scale(residualScale), [added], size);
  }
  return declaration.value(scope.place(own.sum, "stream", block), add(), [stream, added], size);
}

/** Rows of the embedding table, scaled where the family does so: the stream that the first layer reads. */
function entry(declaration: Declaration, config: ModelConfig): string {
  const { embeddingScale, embeddingScaledInModule } = config;
  const size = { columns: config.hiddenSize };
  const rows = embedding(table);
  const module = "model.embed_tokens";
  if (embeddingScale === 1) return declaration.outside(module, "embedding", rows, [], size);
  const [lookup, scaled] = embeddingScaledInModule ? [`${module}.rows`, module] : [module, `${module}.scaled`];
  const looked = declaration.outside(lookup, "embedding", rows, [], size);
  return declaration.outside(scaled, "entry", scale(embeddingScale), [looked], size);
}

/** Final norm, output projection, what the family makes of the logits, and the token they choose. */
function exit(declaration: Declaration, config: ModelConfig, stream: string): void {
  const size = { columns: config.hiddenSize };
  const words = { columns: config.vocabularySize };
  const last = norm(declaration, config, outsideLayers("model.norm", "last-norm"), stream, size, config.hiddenSize);
  const hidden = declaration.outside("model", "hidden", identity(), [last], size);
  const gathered = declaration.outside("lm_head.input", "gathered", select(), [hidden], size);
  const weight = outputWeight(config);
  if (!config.tiedEmbeddings) declaration.parameter(weight, "projection", [words.columns, size.columns]);
  let logits = declaration.outside("lm_head", "logits", linear({ weight }), [gathered], words);
  if (config.logitScale !== 1)
    logits = declaration.outside("logits", "final-logits", scale(config.logitScale), [logits], words);
  if (config.logitSoftCap !== undefined)
    logits = declaration.outside("logits", "final-logits", softCap(config.logitSoftCap), [logits], words);
  declaration.outside("sample", "sample", argmax(), [logits], { columns: 1 });
}
