import { termName } from "../spec/ranks.js";
import { InputError } from "../tensor/errors.js";
import type { ValueRecord } from "./capture.js";
import { isPagedRecord } from "./capture.js";

/** The records of one value of one step that belong together, whichever ranks they come from; terms by names of their own. */
export interface Assembly {
  /** One record of the whole value, or one for each part, in order. */
  readonly records: readonly ValueRecord[];
  /** Further ranks' records of the same: index into `records` → those records. */
  readonly replicas: ReadonlyMap<number, readonly ValueRecord[]>;
}

/** Records of a run of several ranks as values of the spec, and what is left out since a part of it is not there. */
export interface Assemblies {
  readonly values: readonly Assembly[];
  /** How many terms each value is the sum of, by its name, where terms were recorded. */
  readonly sums: ReadonlyMap<string, number>;
  /** How many parts the columns of a value were cut into; of those that were recorded whole, 1. */
  readonly cuts: ReadonlyMap<string, number>;
  readonly incomplete: readonly { value: string; why: string }[];
}

/** Records of a run without ranks: each is a value. */
export function alone(records: readonly ValueRecord[]): Assemblies {
  const replicas = new Map();
  return {
    values: records.map((record) => ({ records: [record], replicas })),
    sums: new Map(),
    cuts: new Map(),
    incomplete: [],
  };
}

/**
 * Puts the records of all ranks together: a value that several ranks hold is one value, shards are one value, the terms of
 * a sum are values of their own.
 * @param preferred rank whose record stands for those of all ranks that hold the same.
 * @throws InputError when ranks contradict each other in how a value is cut, or record a part of it twice.
 */
export function assemble(path: string, records: readonly ValueRecord[], preferred: number): Assemblies {
  const sums = new Map<string, number>();
  const cuts = new Map<string, number>();
  const groups = new Map<string, ValueRecord[]>();
  for (const given of records) {
    const { partial, name } = given;
    const record = partial ? { ...given, name: termName(name, partial.part) } : given;
    if (partial) {
      const of = sums.get(name) ?? partial.of;
      if (of !== partial.of)
        throw new InputError(
          `${placeOf(path, record)}: partial.of: expected ${of} as in its other terms, found ${partial.of}`,
        );
      sums.set(name, of);
    }
    const key = JSON.stringify([record.step, record.role, record.name, record.role === "input" ? record.by : null]);
    const group = groups.get(key);
    if (group) group.push(record);
    else groups.set(key, [record]);
  }
  const values: Assembly[] = [];
  const incomplete: { value: string; why: string }[] = [];
  for (const group of groups.values()) {
    const [first] = group as [ValueRecord];
    const { name } = first;
    const parts = partsOf(path, group);
    if (first.role === "output") cuts.set(name, first.shard && first.shard.axis !== "t" ? first.shard.of : 1);
    const of = first.shard?.of ?? 1;
    if (parts.size < of) {
      let missing = 0;
      while (parts.has(missing)) missing++;
      const why = `part ${missing} of ${of} was not recorded by any rank`;
      incomplete.push({ value: `${name} (step ${first.step})`, why });
      continue;
    }
    const sorted = [...parts]
      .sort(([a], [b]) => a - b)
      .map(([, same]) =>
        same.sort((a, b) => Number(b.rank === preferred) - Number(a.rank === preferred) || a.rank! - b.rank!),
      );
    const replicas = new Map(sorted.flatMap((same, part) => (same.length > 1 ? [[part, same.slice(1)] as const] : [])));
    values.push({ records: sorted.map(([chosen]) => chosen!), replicas });
  }
  return { values, sums, cuts, incomplete };
}

/** The records of a group by the part they hold. */
function partsOf(path: string, group: readonly ValueRecord[]): Map<number, ValueRecord[]> {
  const [first] = group as [ValueRecord];
  const parts = new Map<number, ValueRecord[]>();
  for (const record of group) {
    const { shard } = record;
    if (shard?.axis !== first.shard?.axis || shard?.of !== first.shard?.of)
      throw new InputError(
        `${placeOf(path, record)}: shard: expected ${cutOf(first)} as rank ${first.rank} recorded it, found ${cutOf(record)}: overlapping parts`,
      );
    if (isPagedRecord(record) !== isPagedRecord(first))
      throw new InputError(`${placeOf(path, record)}: view: expected pages from every rank or from none`);
    const part = shard?.part ?? 0;
    const same = parts.get(part) ?? [];
    if (same.some(({ rank }) => rank === record.rank))
      throw new InputError(`${placeOf(path, record)}: expected one record of a part, found two`);
    same.push(record);
    parts.set(part, same);
  }
  return parts;
}

function cutOf({ shard }: ValueRecord): string {
  return shard ? `parts of ${shard.of} along "${shard.axis}"` : "the whole value";
}

function placeOf(path: string, { name, step, rank }: ValueRecord): string {
  return `${path}: "${name}" of step ${step}, rank ${rank}`;
}
