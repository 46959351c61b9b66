import type { Capture, DenseRecord } from "../capture/capture.js";
import type { DenseView } from "../capture/format.js";
import { InputError } from "../tensor/errors.js";
import type { Dump, DumpTensor } from "./dump.js";
import type { NameMap, Placement } from "./names-file.js";
import { type DumpSteps, stepsOf } from "./steps.js";

/**
 * A dump as a capture: its tensors under the spec's names, their bytes where they lie.
 * @throws InputError when its tokens are not known, or a placement does not fit its tensor.
 */
export function namedCapture(
  dump: Dump,
  names: Pick<NameMap, "tokens" | "token_ids" | "values" | "unplaced">,
  { steps, paddings, isBatch }: DumpSteps = stepsOf(dump, names),
): Capture {
  const byTensor = new Map<string, Placement[]>();
  for (const placement of names.values) {
    const list = byTensor.get(placement.tensor);
    if (list) list.push(placement);
    else byTensor.set(placement.tensor, [placement]);
  }
  const known = new Set(steps.map(({ step }) => step));
  const records: DenseRecord[] = [];
  const skipped = [
    ...dump.skipped,
    ...(names.unplaced ?? []).map(({ tensor, why }) => ({ value: tensor, why: `not placed: ${why}` })),
  ];
  const dims: Record<string, string> = {};
  for (const tensor of dump.tensors) {
    const placements = byTensor.get(tensor.name) ?? [];
    if (placements.length === 0) continue;
    if (!known.has(tensor.step)) {
      skipped.push({ value: `${tensor.name} (step ${tensor.step})`, why: "the tokens of its step are not known" });
      continue;
    }
    for (const placement of placements) {
      if (placement.dims) dims[placement.value] = placement.dims;
      records.push(recordOf(tensor, placement, records.length, dump.path));
    }
  }
  const missing = names.values.find(({ tensor }) => !dump.tensors.some(({ name }) => name === tensor));
  if (missing) throw new InputError(`${dump.path}: expected a tensor "${missing.tensor}" as in the names, found none`);
  if (records.length === 0)
    throw new InputError(`${dump.path}: expected values of the model, found none that the names place`);
  return {
    path: dump.path,
    kind: isBatch ? "plain" : "faultline",
    manifest: { format: "faultline-capture", version: 1, runtime: { name: dump.format }, dims },
    steps,
    paddings,
    samples: [],
    records,
    skipped,
    close() {},
  };
}

/** A tensor, or the part of it that a placement names, as a record. */
export function recordOf(tensor: DumpTensor, placement: Placement, order: number, path: string): DenseRecord {
  const part = partOf(tensor, placement, path);
  const view: DenseView = {
    storage: tensor.storage,
    epoch: 0,
    dtype: tensor.dtype,
    shape: [...part.shape],
    strides: [...part.strides],
    offset: part.first,
  };
  const { value: name, role = "output", by } = placement;
  return { step: tensor.step, name, role, by, view, source: tensor.source, first: part.first, order };
}

interface Part {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly first: number;
}

function partOf(tensor: DumpTensor, { columns, index, heads, value }: Placement, path: string): Part {
  let part: Part = tensor;
  const fail = (what: string) =>
    new InputError(
      `${path}: "${tensor.name}" as ${value}: ${what} of shape [${tensor.shape.join(", ")}]: correct the file of names`,
    );
  if (index !== undefined) {
    if (!(index < (part.shape[0] ?? 0))) throw fail(`expected index ${index} to be one`);
    const [stride, ...strides] = part.strides;
    part = { shape: part.shape.slice(1), strides, first: part.first + index * stride! };
  }
  if (heads !== undefined) {
    const [rows, width] = part.shape;
    const [rowStride, columnStride] = part.strides;
    if (part.shape.length !== 2 || rows! % heads !== 0) throw fail(`expected rows of ${heads} heads`);
    const strides = [heads * rowStride!, rowStride!, columnStride!];
    part = { shape: [rows! / heads, heads, width!], strides, first: part.first };
  }
  return columns ? columnsOf(part, columns, fail) : part;
}

/** Columns of the last axis, or where they are heads, of the last two. */
function columnsOf(
  { shape, strides, first }: Part,
  [from, count]: [number, number],
  fail: (what: string) => InputError,
): Part {
  const [last, lastStride] = [shape.at(-1) ?? 0, strides.at(-1) ?? 0];
  if (from + count <= last) return { shape: [...shape.slice(0, -1), count], strides, first: first + from * lastStride };
  const [heads, headStride] = [shape.at(-2) ?? 0, strides.at(-2) ?? 0];
  if (shape.length < 3 || from % last !== 0 || count % last !== 0 || (from + count) / last > heads)
    throw fail(`expected columns ${from} to ${from + count - 1}`);
  return {
    shape: [...shape.slice(0, -2), count / last, last],
    strides,
    first: first + (from / last) * headStride,
  };
}
