import { packAddressing } from "../device/attention-call.js";
import type { DeviceBuffer } from "../device/backend.js";
import { formatOf } from "../device/element-format.js";
import { headRows, packedRows } from "../device/packed-rows.js";
import { dense } from "../device/places.js";
import type { AppendStep, AttendStep, Prologue, RotateStep } from "../program/step.js";
import { prefillRows } from "../run/split-plan.js";
import { type AttentionPrologue, appendLaunch, attentionLaunches } from "./attention.js";
import type { CudaLaunch } from "./launch.js";
import { launch, type StepContext } from "./step-context.js";

/** RoPE of query or key heads. */
export function rotate({ label, rotation, ...step }: RotateStep, { modules, memory, places }: StepContext): CudaLaunch {
  const { heads, headDim } = rotation;
  const input = places.of(step.input);
  const values = {
    header: memory.batch.header,
    batch: memory.batch.arrays,
    input: input.buffer,
    angles: memory.angles.of(rotation),
    output: dense(places.of(step.output), label),
    heads,
    headDim,
    inputStride: input.rowStride,
    inputOffset: input.offset,
  };
  const across = Math.ceil((heads * headDim) / 8 / 64);
  return launch(modules, label, "rotate", values, ({ rows }) => [across, rows, 1]);
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
  const { modules, memory, places, captured } = context;
  const [keys, values] = step.caches;
  const cache = memory.store.view(keys!.cache, values!.cache);
  const { rotation, keyHeads } = prologue;
  const operands = {
    addressing: packAddressing(cache),
    header: memory.batch.header,
    batch: memory.batch.arrays,
    packed: packedRows(prologue, places).buffer,
    keys: cache.keys.buffer,
    values: cache.values.buffer,
    rotated: dense(places.of(prologue.rotatedQuery), step.label),
    rotatedKeys: captured ? dense(places.of(prologue.rotatedKey), step.label) : null,
    ...rotaryOperands(prologue, context),
    heads: rotation.heads,
    kvHeads: keyHeads,
    headDim: rotation.headDim,
    format: formatOf(cache.keys.dtype, "cache"),
  };
  const heads = rotation.heads + 2 * keyHeads;
  return launch(modules, step.label, "rotate-append", operands, ({ rows }) => [heads, rows, 1]);
}

/** Attention, and the merge of its states where no later product does that. */
export function attend(step: AttendStep, context: StepContext): CudaLaunch[] {
  const { modules, memory, places, plan, workspace, captured } = context;
  const { label, heads, kvHeads, headDim, prologue } = step;
  return attentionLaunches(modules, {
    label,
    batch: memory.batch,
    mask: step,
    heads,
    kvHeads,
    headDim,
    decode: plan.decode,
    leastTiles: plan.tileRows / prefillRows,
    query: prologue ? packedRows(prologue, places) : headRows(places.of(step.query), headDim),
    cache: memory.store.view(step.keys, step.values),
    pageSize: memory.store.options.pageSize,
    output: dense(places.of(step.output), label),
    lse: workspace.attentionLse,
    // One split is already the result.
    states: plan.decode && plan.split ? { states: workspace.states, lse: workspace.stateLse } : undefined,
    // A product that merges leaves the merged value nowhere; for a capture it is made besides.
    merge: step.mergedBy === "itself" || captured,
    narrow: narrowOutput(step, context),
    ...(prologue && { prologue: attentionPrologue(prologue, label, context) }),
  });
}

/** Where the products after it read attention of many rows in the type of its cache. */
function narrowOutput({ output }: AttendStep, { narrow, memory, plan, places }: StepContext): DeviceBuffer | undefined {
  const dtype = narrow.typeFor(output);
  if (plan.rows > 0 || plan.decode || !dtype || dtype !== memory.store.options.dtype) return undefined;
  return narrow.leave(places, output, dtype).buffer;
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
