import type { GraphNode } from "../spec/graph.js";
import { storedAppend } from "../spec/ops/stored-append.js";
import { type DType, floatFormat } from "../tensor/dtype.js";
import { isQuantised, type ScaledType } from "../tensor/scaled-type.js";
import { type FittedScale, fitScale, type StoredRow } from "./fitted-scale.js";
import type { PagedView } from "./format.js";
import type { CaptureObservations, PlacedPaged } from "./observations.js";

/** How a KV cache keeps its values: round(value / scale) in `dtype`. */
export interface CacheFormat {
  readonly dtype: DType;
  /** Undefined when it was not recorded and the bytes do not tell. */
  readonly scale: number | undefined;
  /** How far the scale may be off, relative: what was read off the bytes is not known to its last digit. */
  readonly error: number;
}

/** A format whose scale is known. */
export type CachedType = CacheFormat & ScaledType;

/** Most rows that a scale is read off, and most places they are chosen from. */
const maxRows = 256;
const maxPlaces = 2 ** 14;

/** A row of a sequence and where a record holds it. */
interface Place {
  readonly placed: PlacedPaged;
  readonly row: number;
  readonly slot: number;
}

/** The formats of a recording's caches: as their views say, else as their bytes show, else as other layers have it. */
export class CacheFormats {
  readonly #known = new Map<string, CacheFormat | undefined>();
  readonly #own = new Map<string, CacheFormat | undefined>();
  readonly #fitted = new Map<string, FittedScale | undefined>();

  constructor(readonly observations: CaptureObservations) {}

  of(name: string): CacheFormat | undefined {
    if (!this.#known.has(name)) this.#known.set(name, this.#resolve(name));
    return this.#known.get(name);
  }

  /** The scale that the bytes of a recorded cache show, whatever its views say. */
  fitted(name: string): FittedScale | undefined {
    if (!this.#fitted.has(name)) {
      const { written, read } = this.#views(name);
      const [first] = [...written, ...read];
      this.#fitted.set(name, first && fitScale(this.#rows(name), first.dtype));
    }
    return this.#fitted.get(name);
  }

  /** Caches whose pages cannot be read as numbers. */
  unreadable(): { value: string; why: string }[] {
    return this.#caches()
      .filter(({ name }) => this.observations.pagedRecords(name).length > 0)
      .flatMap(({ name }) => {
        const format = this.of(name)!;
        const why = `${format.dtype} pages without a scale, and what was recorded beside them does not tell one`;
        return format.scale === undefined ? [{ value: name, why }] : [];
      });
  }

  /** Appends of caches that are narrower than what is appended to them. */
  appends(): GraphNode[] {
    return this.#caches().flatMap((node) => {
      const format = this.of(node.name);
      return format && this.#narrows(node, format) ? [{ ...node, op: storedAppend(format) }] : [];
    });
  }

  #caches(): GraphNode[] {
    return [...this.observations.graph.nodes.values()].filter(({ op }) => op.kind === "append");
  }

  #narrows(node: GraphNode, { dtype, scale }: CacheFormat): boolean {
    if (isQuantised(dtype) || scale !== 1) return true;
    const appended = [node, ...this.#siblings(node)]
      .map(({ inputs }) => this.observations.dtype(inputs[0]!))
      .find(Boolean);
    const [own, source] = [floatFormat(dtype), appended && floatFormat(appended)];
    return own !== undefined && source !== undefined && own.fractionBits < source.fractionBits;
  }

  #resolve(name: string): CacheFormat | undefined {
    const own = this.#ownFormat(name);
    // Bytes that no one scale explains are not explained by another layer's.
    if (own?.scale !== undefined || (own && this.#rows(name).length > 0)) return own;
    const node = this.observations.graph.find(name);
    if (node?.op.kind !== "append") return own;
    const formats = (nodes: readonly GraphNode[]) => nodes.flatMap((cache) => this.#ownFormat(cache.name) ?? []);
    const all = formats(this.#caches().filter((cache) => cache !== node));
    const side = formats(this.#siblings(node));
    // Where a side was never recorded the other has its type, but not its scale.
    const kin = side.length > 0 ? side : all;
    const [first] = kin;
    if (!first || kin.some(({ dtype }) => dtype !== first.dtype) || (own && own.dtype !== first.dtype)) return own;
    const [best] = side.filter(({ scale }) => scale !== undefined).sort((a, b) => a.error - b.error);
    const agreed = best && side.every((format) => alike(format, best)) ? best : undefined;
    // One scale among two caches or more is the run's; of a single cache it is that cache's own, unless it is none.
    const shared = agreed && all.filter((format) => alike(format, agreed)).length > 1;
    if (agreed && (shared || agreed.scale === 1)) return agreed;
    const none = kin.every(({ scale }) => scale === 1);
    return { dtype: first.dtype, scale: none ? 1 : undefined, error: 0 };
  }

  /** Caches of the same side, keys or values, in other layers. */
  #siblings(node: GraphNode): GraphNode[] {
    return this.#caches().filter(({ name, site }) => name !== node.name && site.what === node.site.what);
  }

  /** What a cache's own records say. */
  #ownFormat(name: string): CacheFormat | undefined {
    if (!this.#own.has(name)) this.#own.set(name, this.#recorded(name));
    return this.#own.get(name);
  }

  /** A writer knows what it divided by, then the bytes do; what a reader multiplies by may be wrong. */
  #recorded(name: string): CacheFormat | undefined {
    const { written, read } = this.#views(name);
    const [first] = [...written, ...read];
    if (!first) return undefined;
    const { dtype } = first;
    const claim = (views: readonly PagedView[]) => views.find(({ scale }) => scale !== undefined)?.scale;
    const own = claim(written);
    if (own !== undefined) return { dtype, scale: own, error: 0 };
    const claimed = claim(read);
    if (!isQuantised(dtype)) return { dtype, scale: claimed ?? 1, error: 0 };
    const fitted = this.fitted(name);
    // What was read off the bytes may be the number that a reader knows to its last digit.
    if (fitted && claimed !== undefined && alike({ dtype, scale: claimed, error: 0 }, { dtype, ...fitted }))
      return { dtype, scale: claimed, error: 0 };
    if (fitted) return { dtype, ...fitted };
    const rows = this.#rows(name);
    // Nothing but zeros is that under any scale.
    const empty = rows.length > 0 && rows.every(({ stored }) => stored.every((x) => x === 0));
    return { dtype, scale: claimed ?? (empty ? 1 : undefined), error: 0 };
  }

  #views(name: string): { written: PagedView[]; read: PagedView[] } {
    const of = (role: "output" | "input") =>
      this.observations.pagedRecords(name).flatMap(({ record }) => (record.role === role ? [record.view] : []));
    return { written: of("output"), read: of("input") };
  }

  /** Rows of which it is known what was to be stored, and what the cache holds: as written, else as read. */
  #rows(name: string): StoredRow[] {
    const { observations } = this;
    const source = observations.graph.find(name)?.inputs[0];
    if (source === undefined) return [];
    const records = observations.pagedRecords(name);
    for (const role of ["output", "input"] as const) {
      const places: Place[] = [];
      for (const placed of records) {
        if (placed.record.role !== role) continue;
        for (const place of this.#places(placed)) if (places.push(place) === maxPlaces) break;
        if (places.length >= maxPlaces) break;
      }
      const stride = Math.ceil(places.length / maxRows);
      const rows = places.flatMap(({ placed, row, slot }, i) => {
        const produced = i % stride === 0 ? observations.output(source, row) : undefined;
        const stored = produced && observations.storedRow(placed, slot)?.value;
        return stored ? [{ value: produced.value, recorded: produced.dtype, stored }] : [];
      });
      if (rows.length > 0) return rows;
    }
    return [];
  }

  /** Rows that a record holds, and where: the step's own as it wrote them, all of its sequences as it read them. */
  *#places(placed: PlacedPaged): Generator<Place> {
    const { capture, rows } = this.observations;
    const step = rows.steps[placed.stepIndex]!;
    if (placed.record.role === "output") {
      const slots = capture.steps[placed.stepIndex]!.slot_mapping ?? [];
      for (let i = 0; i < Math.min(slots.length, step.rowCount); i++)
        yield { placed, row: step.firstRow + i, slot: slots[i]! };
      return;
    }
    for (let b = 0; b < step.lengths.length; b++) {
      for (let position = 0; position < step.lengths[b]!; position++) {
        const row = step.histories[b]![position]!;
        const slot = this.observations.readSlot(placed.stepIndex, b, position);
        if (slot !== undefined && rows.stepOf[row]! >= 0) yield { placed, row, slot };
      }
    }
  }
}

/** Whether two scales may be one and the same number. */
function alike(a: CacheFormat, b: CacheFormat): boolean {
  return a.scale !== undefined && b.scale !== undefined && Math.abs(a.scale / b.scale - 1) <= a.error + b.error;
}
