import type { PagedRecord } from "../../capture/capture.js";
import type { PagedView } from "../../capture/format.js";
import type { PlacedPaged } from "../../capture/observations.js";
import { type CacheCause, holds, type WrongKey } from "../causes/cached-key.js";
import { type CauseId, classed } from "../causes/catalogue.js";
import type { ParameterValue } from "../causes/hypothesis.js";
import type { Investigation } from "../check/investigation.js";

/** Another way to address the pages that a step reads. */
interface Candidate {
  readonly record: PagedRecord;
  readonly cause: CauseId;
  readonly title: string;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
}

/** The bytes are right under other strides, another offset or another type: the writer's, or those of another layout. */
export function byView(
  { observations }: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
): CacheCause | undefined {
  const writer = observations.pagedAt(name, placed.stepIndex, "output")?.record;
  const candidates = [...(writer ? asWritten(placed.record, writer) : []), ...otherPlaces(placed.record)];
  for (const { record, cause, title, parameters } of candidates) {
    const reread = { ...placed, record };
    const type = observations.cachedType(reread);
    const right = wrong.every(({ key, produced }) => {
      const stored = observations.storedRow(reread, key.slot)?.value;
      return type !== undefined && stored !== undefined && holds(stored, produced, type);
    });
    if (right) return { ...classed(cause), statement: `the KV pages are ${title}`, parameters };
  }
  return undefined;
}

/** What the writer's view says differently. */
function asWritten(reader: PagedRecord, writer: PagedRecord): Candidate[] {
  const [read, written] = [reader.view, writer.view];
  const out: Candidate[] = [];
  if (written.dtype !== read.dtype) {
    out.push({
      record: viewed(reader, { dtype: written.dtype }),
      cause: "dtype-bits",
      title: `written as ${written.dtype}, read as ${read.dtype}`,
      parameters: { written: written.dtype, read: read.dtype },
    });
  }
  // Pages are those of the writer: pages further apart, or an offset over whole pages, lead to others of the storage.
  const asWriter = viewed(writer, { dtype: read.dtype });
  if (written.strides.join() !== read.strides.join() && written.layout === read.layout) {
    out.push({
      record: written.strides[0] === read.strides[0] ? viewed(reader, { strides: written.strides }) : asWriter,
      cause: "stride-mismatch",
      title: `written with strides [${written.strides}], read with [${read.strides}]`,
      parameters: { written: written.strides.join(" "), read: read.strides.join(" ") },
    });
  }
  if (written.offset !== read.offset) {
    out.push(offsetMismatch(asWriter, read));
  }
  return out;
}

/** The other layout, and the other half of pages that hold keys and values. */
function otherPlaces(reader: PagedRecord): Candidate[] {
  const { page_size: size, heads, head_dim: width, strides, offset } = reader.view;
  const page = strides[0]!;
  const out: Candidate[] = [];
  const layouts = { NHD: [page, heads * width, width, 1], HND: [page, width, size * width, 1] };
  for (const [layout, others] of Object.entries(layouts)) {
    if (others.join() === strides.join()) continue;
    const read = layout === "NHD" ? "HND" : "NHD";
    out.push({
      record: viewed(reader, { strides: others }),
      cause: "layout-mismatch",
      title: `written as ${layout}, read as ${read}`,
      parameters: { written: layout, read },
    });
  }
  const half = size * heads * width;
  if (page >= 2 * half) {
    const other = offset % page < half ? offset + half : offset - half;
    out.push(offsetMismatch(viewed(reader, { offset: other }), reader.view));
  }
  return out;
}

function offsetMismatch(record: PagedRecord, read: PagedView): Candidate {
  return {
    record,
    cause: "offset-mismatch",
    title: `written at offset ${record.view.offset} of their storage, read at ${read.offset}`,
    parameters: { written: record.view.offset, read: read.offset },
  };
}

function viewed(record: PagedRecord, change: Partial<PagedView>): PagedRecord {
  return { ...record, view: { ...record.view, ...change } };
}
