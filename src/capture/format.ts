import { z } from "zod";
import { dtypes } from "../tensor/dtype.js";

/** Capture format version 1 (docs/capture-format.md): manifest.json, events.jsonl, step-00000.safetensors, … */

export const formatName = "faultline-capture";
export const formatVersion = 1;

/** Largest element address, id or count a recording may name. */
const count = z
  .int()
  .nonnegative()
  .max(2 ** 40);
const integers = (limit: number) => z.array(count).max(limit);
const rows = 2 ** 22;

export const manifestSchema = z.looseObject({
  format: z.literal(formatName),
  version: z.literal(formatVersion),
  model: z.record(z.string(), z.unknown()).optional(),
  runtime: z
    .looseObject({
      name: z.string().max(200).optional(),
      version: z.string().max(200).optional(),
      device: z.string().max(200).optional(),
      dtype: z.string().max(40).optional(),
    })
    .optional(),
  dims: z.record(z.string(), z.string().max(40)).optional(),
});

const name = z.string().min(1).max(300);
const storage = z.string().min(1).max(200);

export const denseViewSchema = z.looseObject({
  storage,
  epoch: count,
  dtype: z.enum(dtypes),
  shape: z.array(count).min(1).max(6),
  strides: z
    .array(
      z
        .int()
        .min(-(2 ** 40))
        .max(2 ** 40),
    )
    .max(6),
  offset: count,
});

export const pagedViewSchema = z.looseObject({
  storage,
  epoch: count,
  dtype: z.enum(dtypes),
  layout: z.enum(["NHD", "HND"]),
  page_size: z
    .int()
    .positive()
    .max(2 ** 20),
  heads: z
    .int()
    .positive()
    .max(2 ** 16),
  head_dim: z
    .int()
    .positive()
    .max(2 ** 16),
  /** In the order page, slot, head, channel, whatever the layout. */
  strides: z.array(count).length(4),
  offset: count,
  pages: integers(2 ** 20),
  /** What the elements are multiplied by when they are read; unknown or 1 when absent. */
  scale: z
    .number()
    .min(2 ** -127)
    .max(2 ** 127)
    .optional(),
});

const value = {
  event: z.literal("value"),
  step: count,
  name,
  role: z.enum(["output", "input"]),
  by: z.string().max(200).nullish(),
};

export const eventSchema = z.union([
  z.looseObject({
    event: z.literal("step"),
    step: count,
    seq_ids: integers(2 ** 16),
    token_ids: integers(rows),
    qo_indptr: integers(2 ** 16 + 1),
    positions: z.array(z.int()).max(rows).optional(),
    kv_indptr: integers(2 ** 16 + 1).optional(),
    kv_indices: z.array(z.int()).max(rows).optional(),
    kv_last_page_len: z
      .array(z.int())
      .max(2 ** 16)
      .optional(),
    slot_mapping: z.array(z.int()).max(rows).optional(),
    page_size: z
      .int()
      .positive()
      .max(2 ** 20)
      .optional(),
  }),
  z.looseObject({ ...value, view: pagedViewSchema }),
  z.looseObject({ ...value, view: denseViewSchema }),
  z.looseObject({ event: z.literal("sample"), step: count, token_ids: z.array(z.int()).max(2 ** 16) }),
]);

export type Manifest = z.infer<typeof manifestSchema>;
export type CaptureEvent = z.infer<typeof eventSchema>;
export type StepEvent = Extract<CaptureEvent, { event: "step" }>;
export type SampleEvent = Extract<CaptureEvent, { event: "sample" }>;
export type DenseView = z.infer<typeof denseViewSchema>;
export type PagedView = z.infer<typeof pagedViewSchema>;
export type ValueEvent = {
  event: "value";
  step: number;
  name: string;
  role: "output" | "input";
  by?: string | null | undefined;
  view: DenseView | PagedView;
};

export function isPaged(view: DenseView | PagedView): view is PagedView {
  return "pages" in view;
}

/** File that holds a step's tensors. */
export function stepFileName(step: number): string {
  return `step-${String(step).padStart(5, "0")}.safetensors`;
}

/** Name of a dense view's bytes: the span from its offset to its last element. */
export function spanName(view: DenseView): string {
  return `${view.storage}@${view.epoch}`;
}

/** Name of the bytes of one page of a storage. */
export function pageName(view: PagedView, storagePage: number): string {
  return `${view.storage}@${view.epoch}/p${storagePage}`;
}
