import type { CachedType } from "../../capture/cache-formats.js";
import type { PlacedPaged } from "../../capture/observations.js";
import { isQuantised } from "../../tensor/scaled-type.js";
import type { Investigation } from "../check/investigation.js";
import { type CacheCause, holds, type WrongKey } from "./cached-key.js";
import type { CauseEntries } from "./cause-entry.js";
import { short } from "./hypothesis.js";

/** Scales of a narrow KV cache. */
export const cacheScaleCauses = {
  "cache-scale": {
    kind: "seam",
    transform: "T8",
    legend: "The KV cache is written with one scale and read with another: missed, inverted, another layer's.",
    hiddenBy: "scales of 1; for keys, rows with one key",
    confusedWith: ["softmax-scale", "scaled", "dtype-bits"],
    report: ["flashinfer-ai/flashinfer#4979", "a path for ragged prompts ignored the scales of an fp8 cache"],
  },
} as const satisfies CauseEntries;

/** A scale that somebody may have used in place of the right one. */
export interface WrongScale {
  readonly scale: number;
  /** What it is beside the right one; undefined for a number of no such kind. */
  readonly title: string | undefined;
}

/** Scales that are read off the bytes are alike to within their digits. */
const tolerance = 1e-3;

/** Scales that runtimes mix up with that of the cache `name`: none, its inverse, another layer's, the other side's. */
export function mistakableScales({ observations, graph }: Investigation, name: string, right: number): WrongScale[] {
  const site = graph.node(name);
  const side = (cache: string) => cache.slice(cache.lastIndexOf("."));
  const others: WrongScale[] = [];
  for (const node of graph.nodes.values()) {
    if (node.op.kind !== "append" || node.name === name) continue;
    const scale = observations.cacheFormat(node.name)?.scale;
    if (scale === undefined) continue;
    const sameSide = side(node.name) === side(name);
    if (sameSide) others.push({ scale, title: `that of layer ${node.layer}` });
    else if (node.layer === site.layer) others.unshift({ scale, title: `that of ${side(node.name).slice(1)}` });
  }
  const all = [{ scale: 1, title: "missed" }, { scale: 1 / right, title: "inverted" }, ...others];
  return all.filter(
    ({ scale }, i) => !alike(scale, right) && all.findIndex((other) => alike(other.scale, scale)) === i,
  );
}

/** The keys are right under another scale than the one they are read with. */
export function byScale(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
  read: CachedType,
): CacheCause | undefined {
  const { observations } = investigation;
  if (!isQuantised(read.dtype) && read.scale === 1) return undefined;
  const explains = (scale: number | undefined, error = 0) =>
    scale !== undefined &&
    !alike(scale, read.scale) &&
    wrong.every(({ stored, produced }) => holds(stored, produced, { ...read, scale, error }));
  const writer = observations.pagedAt(name, placed.stepIndex, "output")?.record.view.scale;
  const named = mistakableScales(investigation, name, read.scale);
  const known = [writer, ...named.map(({ scale }) => scale)].find((scale) => explains(scale));
  const fitted = observations.fittedScale(name);
  const stored = known ?? (explains(fitted?.scale, fitted?.error) ? fitted!.scale : undefined);
  return stored === undefined ? undefined : mismatch(investigation, name, stored, read.scale, writer);
}

function mismatch(
  investigation: Investigation,
  name: string,
  stored: number,
  read: number,
  writer: number | undefined,
): CacheCause {
  // Who says what it used is believed; else a missing scale is missing where there is none.
  const atRead = writer === undefined ? !alike(stored, 1) : alike(writer, stored);
  const [used, right] = atRead ? [read, stored] : [stored, read];
  const title = mistakableScales(investigation, name, right).find(({ scale }) => alike(scale, used))?.title;
  return scaleCause(atRead ? "read" : "write", right, { scale: used, title });
}

/** The cause that a scale is wrong where a cache is written or where it is read. */
export function scaleCause(at: "read" | "write", right: number, { scale, title }: WrongScale): CacheCause {
  const [stored, read] = at === "read" ? [right, scale] : [scale, right];
  return {
    cause: "cache-scale",
    kind: cacheScaleCauses["cache-scale"].kind,
    transform: cacheScaleCauses["cache-scale"].transform,
    statement: `the KV cache is stored with scale ${short(rounded(stored))} and read with ${short(rounded(read))}${title ? `: at the ${at} it is ${title}` : ""}`,
    parameters: { at, used: rounded(scale), expected: rounded(right) },
  };
}

function alike(a: number, b: number): boolean {
  return Math.abs(a / b - 1) < tolerance;
}

/** As many digits as a scale that was read off the bytes is known to. */
function rounded(scale: number): number {
  return Number(scale.toPrecision(3));
}
