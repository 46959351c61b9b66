import { packAddressing } from "../device/attention-call.js";
import { formatOf } from "../device/element-format.js";
import { headRows, packedRows } from "../device/packed-rows.js";
import { columnsOf, dense } from "../device/places.js";
import type { AppendStep, AttendStep, Prologue, RotateStep } from "../program/step.js";
import { appendDispatch, attentionDispatches } from "./attention.js";
import type { Dispatch } from "./dispatch.js";
import type { Operand } from "./pipelines.js";
import { dispatch, type StepContext } from "./step-context.js";

/** RoPE of query or key heads. */
export async function rotate(step: RotateStep, { gpu, memory, places }: StepContext): Promise<Dispatch[]> {
  const { label, rotation } = step;
  const { heads, headDim } = rotation;
  const input = places.of(step.input);
  const constants = {
    HEADS: heads,
    HEAD_DIM: headDim,
    ROTARY: headDim,
    INPUT_STRIDE: input.rowStride,
    INPUT_OFFSET: input.offset,
  };
  const operands = {
    header: memory.batch.header,
    batch: memory.batch.arrays,
    input: input.buffer,
    angles: memory.angles.of(rotation),
    output: dense(places.of(step.output), label),
  };
  const across = Math.ceil((heads * headDim) / 64);
  return [await dispatch(gpu, label, "rope", constants, operands, (shape) => [across, shape.rows, 1])];
}

/** Keys, values or both into the cache; with a prologue, from the projections on. */
export async function append(step: AppendStep, context: StepContext): Promise<Dispatch[]> {
  if (step.prologue) return [await rotateAndAppend(step, step.prologue, context)];
  const { gpu, memory, places } = context;
  const { heads: kvHeads, headDim } = memory.store.options;
  return Promise.all(
    step.caches.map(({ cache, input, holds }) => {
      const view = memory.store.view(cache, cache);
      const addressing = context.parameters(packAddressing(view));
      const rows = headRows(places.of(input), headDim);
      const shared = { label: step.label, batch: memory.batch, addressing, kvHeads, headDim, holds };
      return appendDispatch(gpu, { ...shared, input: rows, cache: view[holds] });
    }),
  );
}

async function rotateAndAppend(step: AppendStep, prologue: Prologue, context: StepContext): Promise<Dispatch> {
  const { gpu, memory, places, captured } = context;
  const [keys, values] = step.caches;
  const cache = memory.store.view(keys!.cache, values!.cache);
  const { rotation, keyHeads } = prologue;
  const constants = {
    ...normConstants(prologue),
    HEADS: rotation.heads,
    KV_HEADS: keyHeads,
    HEAD_DIM: rotation.headDim,
    ROTARY: rotation.headDim,
    CACHE_FORMAT: formatOf(cache.keys.dtype, "cache"),
    CAPTURE: captured,
  };
  const operands = {
    header: memory.batch.header,
    batch: memory.batch.arrays,
    addressing: context.parameters(packAddressing(cache)),
    packed: packedRows(prologue, context.places).buffer,
    keys: cache.keys.buffer,
    values: cache.values.buffer,
    rotated: dense(places.of(prologue.rotatedQuery), step.label),
    rotated_keys: dense(places.of(prologue.rotatedKey), step.label),
    ...rotaryOperands(prologue, context),
  };
  const heads = rotation.heads + 2 * keyHeads;
  return dispatch(gpu, step.label, "rope-append", constants, operands, (shape) => [heads, shape.rows, 1]);
}

/** Attention, and the merge of its states where no later product does that. */
export async function attend(step: AttendStep, context: StepContext): Promise<Dispatch[]> {
  const { gpu, memory, places, plan, workspace, captured } = context;
  const { label, heads, kvHeads, headDim, prologue } = step;
  const cache = memory.store.view(step.keys, step.values);
  const query = prologue ? packedRows(prologue, context.places) : headRows(places.of(step.query), headDim);
  const output = places.of(step.output);
  // One split is already the result: states [rows, heads, 1, head_dim] are dense.
  if (plan.decode && !plan.split) places.move(step.output, { ...output, buffer: workspace.states });
  // A product that merges leaves the merged value nowhere; for a capture it is made besides.
  const merge = plan.split && (step.mergedBy === "itself" || captured);
  return attentionDispatches(gpu, {
    label,
    batch: memory.batch,
    addressing: context.parameters(packAddressing(cache, query, step)),
    heads,
    kvHeads,
    headDim,
    decode: plan.decode,
    query,
    cache,
    pageSize: memory.store.options.pageSize,
    output: dense(output, label),
    lse: workspace.attentionLse,
    states: { states: workspace.states, lse: workspace.stateLse },
    merge,
    ...(prologue && { prologue: prologueOf(prologue, context) }),
  });
}

function prologueOf(prologue: Prologue, context: StepContext) {
  const { places, workspace, captured } = context;
  const query = places.of(prologue.rotatedQuery);
  const key = places.of(prologue.rotatedKey);
  const queries = columnsOf(query);
  if (captured) {
    const stride = queries + columnsOf(key);
    places.move(prologue.rotatedQuery, workspace.shown(query, 0, stride));
    places.move(prologue.rotatedKey, workspace.shown(key, queries, stride));
  }
  const constants = {
    ...normConstants(prologue),
    PROLOGUE: true,
    KEY_COLUMN: places.of(prologue.key).offset,
    VALUE_COLUMN: places.of(prologue.value).offset,
    CAPTURE_AT: captured ? workspace.shownAt : 0,
  };
  return { constants, operands: rotaryOperands(prologue, context) };
}

/** QK-norm as the kernels that rotate take it. */
function normConstants({ norms }: Prologue) {
  return { QK_NORM: norms !== undefined, EPSILON: norms?.query.epsilon ?? 0 };
}

/** RoPE's table and the gains of QK-norm. */
function rotaryOperands({ rotation, norms }: Prologue, { memory }: StepContext): Readonly<Record<string, Operand>> {
  const angles = memory.angles.of(rotation);
  return norms ? { angles, gains: memory.weights.vector(norms.query.weight).buffer } : { angles };
}
