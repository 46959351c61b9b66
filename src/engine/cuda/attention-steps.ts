import { type HeadRows, packAddressing } from "../device/attention-call.js";
import { formatOf } from "../device/element-format.js";
import { headRows, packedRows } from "../device/packed-rows.js";
import { dense, dtypeOf, type Places } from "../device/places.js";
import type { AppendStep, AttendStep, Prologue, RotateStep } from "../program/step.js";
import { prefillRows } from "../run/split-plan.js";
import { type AttentionPrologue, appendLaunch, attentionLaunches } from "./attention.js";
import type { PathAttention } from "./attention-library.js";
import type { CudaLaunch } from "./launch.js";
import { narrowTypeOf } from "./narrow-copies.js";
import { narrowOutput } from "./narrow-output.js";
import { launch, type StepContext } from "./step-context.js";

/** RoPE of query or key heads. */
export function rotate(
  { label, rotation, ...step }: RotateStep,
  { modules, memory, places, library }: StepContext,
): CudaLaunch {
  const { heads, headDim } = rotation;
  const input = places.of(step.input);
  const { output, dtype } = rotatedPlace(step.output, label, places, library);
  const values = {
    header: memory.batch.header,
    batch: memory.batch.arrays,
    input: input.buffer,
    angles: memory.angles.of(rotation),
    output,
    heads,
    headDim,
    inputStride: input.rowStride,
    inputOffset: input.offset,
    format: formatOf(dtype, "rotated heads"),
  };
  const across = Math.ceil((heads * headDim) / 8 / 64);
  return launch(modules, label, "rotate", values, ({ rows }) => [across, rows, 1]);
}

/** Where rotated heads go: queries for a library to where it takes them. */
function rotatedPlace(name: string, label: string, places: Places, library: PathAttention | undefined) {
  const own = library?.queryPlace(name);
  if (own) places.move(name, own);
  const dtype = dtypeOf(places.of(name));
  return { output: dense(places.of(name), label, dtype), dtype };
}

/** Keys, values or both into the cache; with a prologue, from the projections on. */
export function append(step: AppendStep, context: StepContext): CudaLaunch[] {
  if (step.prologue) return [rotateAndAppend(step, step.prologue, context)];
  const { modules, memory, places } = context;
  const { heads: kvHeads, headDim } = memory.store.options;
  return step.caches.map(({ cache, input, holds }) => {
    const rows = headRows(places.of(input), headDim);
    const view = memory.store.view(cache, cache);
    const shared = { label: step.label, batch: memory.batch, kvHeads, headDim };
    return appendLaunch(modules, { ...shared, input: rows, cache: view, holds });
  });
}

function rotateAndAppend(step: AppendStep, prologue: Prologue, context: StepContext): CudaLaunch {
  const { modules, memory, places, plan, narrow, captured, library } = context;
  const [keys, values] = step.caches;
  const cache = memory.store.view(keys!.cache, values!.cache);
  const { rotation, keyHeads } = prologue;
  // Attention of many rows on tensor cores reads queries in the type of its cache.
  const narrowType = plan.decode || captured || library ? undefined : narrowTypeOf(cache.keys.dtype);
  const { output: rotated, dtype } = narrowType
    ? { output: narrow.leave(places, prologue.rotatedQuery, narrowType, true).buffer, dtype: narrowType }
    : rotatedPlace(prologue.rotatedQuery, step.label, places, library);
  const lanes = 2 ** Math.ceil(Math.log2(rotation.headDim / 8));
  const operands = {
    addressing: packAddressing(cache),
    header: memory.batch.header,
    batch: memory.batch.arrays,
    packed: packedRows(prologue, places).buffer,
    keys: cache.keys.buffer,
    values: cache.values.buffer,
    rotated,
    rotatedKeys: captured ? dense(places.of(prologue.rotatedKey), step.label) : null,
    ...rotaryOperands(prologue, context),
    heads: rotation.heads,
    kvHeads: keyHeads,
    headDim: rotation.headDim,
    lanes,
    format: formatOf(cache.keys.dtype, "cache"),
    rotatedFormat: formatOf(dtype, "rotated heads"),
  };
  const across = Math.ceil((rotation.heads + 2 * keyHeads) / (256 / lanes));
  return launch(modules, step.label, "rotate-append", operands, ({ rows }) => [across, rows, 1]);
}

/** Attention, and the merge of its states where no later product does that. */
export function attend(step: AttendStep, context: StepContext): CudaLaunch[] {
  const { modules, memory, places, plan, workspace, captured } = context;
  const { label, heads, kvHeads, headDim, prologue } = step;
  const dtype = narrowTypeOf(memory.store.options.dtype);
  const left = dtype && !plan.decode ? narrowOutput(step.output, context, dtype) : undefined;
  return attentionLaunches(modules, {
    label,
    batch: memory.batch,
    mask: step,
    heads,
    kvHeads,
    headDim,
    decode: plan.decode,
    leastTiles: plan.tileRows / prefillRows,
    query: prologue ? packedRows(prologue, places) : queryRows(step, context),
    cache: memory.store.view(step.keys, step.values),
    pageSize: memory.store.options.pageSize,
    output: left?.wide === false ? null : dense(places.of(step.output), label),
    lse: workspace.attentionLse,
    // One split is already the result.
    states: plan.decode && plan.split ? { states: workspace.states, lse: workspace.stateLse } : undefined,
    // A product that merges leaves the merged value nowhere; for a capture it is made besides.
    merge: step.mergedBy === "itself" || captured,
    narrow: left?.narrow,
    ...(prologue && { prologue: attentionPrologue(prologue, label, context) }),
  });
}

/** A query of rotated heads, as it was left for attention on tensor cores or as the spec has it. */
function queryRows({ query, heads, headDim }: AttendStep, { narrow, memory, places }: StepContext): HeadRows {
  const dtype = narrowTypeOf(memory.store.options.dtype);
  const copy = dtype && narrow.find(places, query, dtype);
  if (!copy) return headRows(places.of(query), headDim);
  return { buffer: copy.buffer, dtype: copy.dtype, rowStride: heads * headDim, headStride: headDim, offset: 0 };
}

function attentionPrologue(prologue: Prologue, label: string, context: StepContext): AttentionPrologue {
  const { places, captured } = context;
  return {
    ...rotaryOperands(prologue, context),
    keyColumn: places.of(prologue.key).offset,
    valueColumn: places.of(prologue.value).offset,
    rotated: captured ? dense(places.of(prologue.rotatedQuery), label) : null,
    rotatedKeys: captured ? dense(places.of(prologue.rotatedKey), label) : null,
  };
}

/** RoPE's table, and gains and epsilon of QK-norm. */
function rotaryOperands({ rotation, norms }: Prologue, { memory }: StepContext) {
  return {
    angles: memory.angles.of(rotation),
    gains: norms ? memory.weights.vector(norms.query.weight).buffer : null,
    epsilon: norms?.query.epsilon ?? 0,
  };
}
