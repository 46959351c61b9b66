import type { Capture } from "../capture/capture.js";
import { placeSteps } from "../capture/step-rows.js";
import type { Dump, DumpTensor } from "../importers/dump.js";
import type { NameMap, Placement } from "../importers/names-file.js";
import { stepsOf } from "../importers/steps.js";
import type { Graph } from "../spec/graph.js";
import type { ModelConfig } from "../spec/models/config.js";
import { decoderGraph } from "../spec/models/decoder.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import { type DType, floatFormat } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { checkNames, placeByContent } from "./by-content.js";
import { placeByName } from "./by-name.js";
import { placeByOrder } from "./by-order.js";
import { ContentSearch } from "./content-search.js";
import { findTokens, isTokenTensor } from "./find-tokens.js";
import { TensorShapes } from "./tensor-shapes.js";

/** Values that may be placed without their bits: each may let the bits of others be found. */
const maxRounds = 32;
/** Tensors that are tried as a value whose bits they do not have, in all. */
const maxSuppositions = 48;

const noBits = "no value has its bits, and its name and place do not tell";

/** What a dump's tensors are, and what is known of how sure that is. */
export interface Mapping {
  /** To be written, corrected and read again. */
  readonly names: NameMap;
  /** Whether nothing of it needs a person's word. */
  readonly isSure: boolean;
  /** Values of the spec that no tensor holds, by what they are in every layer, with the layers that lack them. */
  readonly missing: readonly { role: string; layers: readonly number[] }[];
}

/** What mapping works on. */
export interface MappingContext {
  readonly dump: Dump;
  readonly graph: Graph;
  /** The first tensor of every name; what it is holds for all steps. */
  readonly tensors: readonly DumpTensor[];
  readonly shapes: TensorShapes;
}

/**
 * Says which value of the spec every tensor of a dump is: by its name, else by its bits, else by its place between others.
 * What cannot be told is left out and listed; what is only likely is marked as unsure.
 * @throws InputError when no tokens are known, or nothing of it fits the model.
 */
export function mapNames(
  dump: Dump,
  config: ModelConfig,
  parameters: ParameterReader,
  progress: (done: number) => void = () => {},
): Mapping {
  const graph = decoderGraph(config);
  const found = findTokens(dump, config, parameters);
  if (!found)
    throw new InputError(
      `${dump.path}: expected the tokens of the run: a tensor of token ids, or the embeddings they were looked up as; found neither`,
    );
  const steps = stepsOf(dump, found);
  const capture: Capture = {
    path: dump.path,
    kind: "faultline",
    manifest: { format: "faultline-capture", version: 1 },
    steps: steps.steps,
    paddings: steps.paddings,
    samples: [],
    records: [],
    skipped: [],
    close() {},
  };
  const shapes = new TensorShapes(dump, capture, placeSteps(capture));
  const known = new Set(capture.steps.map(({ step }) => step));
  const first = new Map<string, DumpTensor>();
  for (const tensor of dump.tensors)
    if (known.has(tensor.step) && !isTokenTensor(dump, found, tensor.name) && !first.has(tensor.name))
      first.set(tensor.name, tensor);
  const context: MappingContext = { dump, graph, tensors: [...first.values()], shapes };
  const named = placeByName(context);
  const precision = { store: storeOf(context.tensors), compute: "float32" } as const;
  const search = new ContentSearch(shapes, graph, config, parameters, precision, named.placed);
  let placed = placeByContent(context, checkNames(context, named.placed, search), search, progress);
  const budget = { left: maxSuppositions };
  for (let round = 0; round < maxRounds && placed.length > 0; round++) {
    const next = placeByOrder(context, placed, search, budget);
    if (!next) break;
    search.add(next);
    placed = placeByContent(context, [...placed, next], search, progress);
  }
  for (const open of named.open)
    if (!placed.some(({ tensor, value }) => tensor === open.tensor || value === open.value)) placed.push(open);
  const holders = new Set(placed.map(({ tensor }) => tensor));
  const unplaced = context.tensors
    .filter(({ name }) => !holders.has(name))
    .map((tensor) => ({
      tensor: tensor.name,
      shape: `[${tensor.shape.join(", ")}] ${tensor.dtype}`,
      why: named.refused.get(tensor.name) ?? whyUnplaced(context, tensor),
    }));
  const { tokens, token_ids } = found;
  // Bits that follow from tokens prove them. And where names say nothing, what has nobody's bits may be what is wrong.
  const silent = placed.some(({ tensor, unsure }) => !unsure && !named.placed.some((each) => each.tensor === tensor));
  return {
    names: { format: "faultline-names", version: 1, tokens, token_ids, values: placed, unplaced },
    isSure:
      (found.isSure || silent) &&
      placed.every(({ unsure }) => !unsure) &&
      !(silent && unplaced.some(({ why }) => why === noBits)),
    missing: missingOf(graph, placed),
  };
}

function whyUnplaced({ graph, shapes }: MappingContext, tensor: DumpTensor): string {
  if (!floatFormat(tensor.dtype)) return `${tensor.dtype} is no value's type`;
  const fits = [...graph.nodes.values()].some((node) => shapes.waysOf(tensor, node).length > 0);
  return fits ? noBits : "its shape is no value's";
}

/** The type that most tensors have. */
function storeOf(tensors: readonly DumpTensor[]): DType {
  const counts = new Map<DType, number>();
  for (const { dtype } of tensors) if (floatFormat(dtype)) counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  if (!most) throw new InputError("expected recorded values in a floating-point type, found none");
  return most[0];
}

function missingOf(graph: Graph, placed: readonly Placement[]): { role: string; layers: number[] }[] {
  const held = new Set(placed.map(({ value }) => value));
  for (const [name, part] of graph.parts) if (held.has(part.name)) held.add(name);
  const roles = new Map<string, number[]>();
  for (const { name, site, layer, op } of graph.nodes.values()) {
    if (held.has(name) || op.kind === "append" || op.kind === "argmax") continue;
    const layers = roles.get(site.role) ?? [];
    if (layer !== undefined) layers.push(layer);
    roles.set(site.role, layers);
  }
  return [...roles].map(([role, layers]) => ({ role, layers }));
}
