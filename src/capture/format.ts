import { z } from "zod";
import { dtypes } from "../tensor/dtype.js";

/** Capture format versions 1 and 2 (docs/capture-format.md): manifest.json, events.jsonl, step-00000.safetensors, … */

export const formatName = "faultline-capture";

/** Largest element address, id or count a recording may name. */
const count = z
  .int()
  .nonnegative()
  .max(2 ** 40);
const integers = (limit: number) => z.array(count).max(limit);
const rows = 2 ** 22;
/** Most stretches of a cache that the keys of one sequence lie in. */
const maxRuns = 2 ** 10;
/** Most ranks that one run may have. */
const maxWorld = 2 ** 12;
const rank = z
  .int()
  .nonnegative()
  .max(maxWorld - 1);

export const manifestSchema = z.looseObject({
  format: z.literal(formatName),
  version: z.literal(1),
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

/** Version 2: one of several ranks' recordings, or all of them. */
export const rankedManifestSchema = manifestSchema.extend({
  version: z.literal(2),
  /** How many ranks the run had. */
  world: z.int().positive().max(maxWorld),
  /** The rank of events that name none. */
  rank: rank.optional(),
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

const part = {
  part: rank,
  of: z.int().positive().max(maxWorld),
};

const shardSchema = z
  .looseObject({ axis: z.enum(["h", "c", "t"]), ...part })
  .refine(({ part, of }) => part < of, { path: ["part"], message: "expected a number below `of`" });

const partialSchema = z
  .looseObject(part)
  .refine(({ part, of }) => part < of, { path: ["part"], message: "expected a number below `of`" });

const ranked = { rank: rank.optional() };

const value = {
  event: z.literal("value"),
  step: count,
  name,
  role: z.enum(["output", "input"]),
  by: z.string().max(200).nullish(),
};

const rankedValue = { ...value, ...ranked, shard: shardSchema.optional(), partial: partialSchema.optional() };

const stepSchema = z.looseObject({
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
  /** Where a sequence's keys lie, oldest first: runs of [first flat slot, how many]; slot -1 for keys that are not there. */
  kv_runs: z
    .array(
      z
        .array(
          z.tuple([
            z
              .int()
              .min(-1)
              .max(2 ** 40),
            count,
          ]),
        )
        .max(maxRuns),
    )
    .max(2 ** 16)
    .optional(),
  /** Sequences and columns of a padded batch, as its values lie in memory. */
  padded: z.tuple([z.int().positive().max(rows), z.int().positive().max(rows)]).optional(),
  /** Place of each row in the padded batch: sequence × columns + column. */
  row_map: integers(rows).optional(),
});

const sampleSchema = z.looseObject({
  event: z.literal("sample"),
  step: count,
  token_ids: z.array(z.int()).max(2 ** 16),
});

export const eventSchema = z.union([
  stepSchema,
  z.looseObject({ ...value, view: pagedViewSchema }),
  z.looseObject({ ...value, view: denseViewSchema }),
  sampleSchema,
]);

export const rankedEventSchema = z.union([
  stepSchema.extend(ranked),
  z.looseObject({ ...rankedValue, view: pagedViewSchema }),
  z.looseObject({ ...rankedValue, view: denseViewSchema }),
  sampleSchema.extend(ranked),
]);

export type Manifest = z.infer<typeof manifestSchema> | z.infer<typeof rankedManifestSchema>;
export type CaptureEvent = z.infer<typeof eventSchema> | z.infer<typeof rankedEventSchema>;
export type StepEvent = Extract<z.infer<typeof eventSchema>, { event: "step" }>;
export type SampleEvent = Extract<z.infer<typeof eventSchema>, { event: "sample" }>;
/** The letter of the axis that is cut, and which part of how many it is. */
export type Shard = z.infer<typeof shardSchema>;
/** Which term of a sum over ranks. */
export type SumTerm = z.infer<typeof partialSchema>;
export type DenseView = z.infer<typeof denseViewSchema>;
export type PagedView = z.infer<typeof pagedViewSchema>;
export type ValueEvent = {
  event: "value";
  step: number;
  name: string;
  role: "output" | "input";
  by?: string | null | undefined;
  view: DenseView | PagedView;
  rank?: number | undefined;
  shard?: Shard | undefined;
  partial?: SumTerm | undefined;
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

/** Name of the same bytes where several views of a storage begin at different elements. */
export function placedSpanName(view: DenseView): string {
  return `${spanName(view)}+${view.offset}`;
}

/** Name of the bytes of one page of a storage. */
export function pageName(view: PagedView, storagePage: number): string {
  return `${view.storage}@${view.epoch}/p${storagePage}`;
}
