import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import { whole } from "../../tensor/printed.js";

/** Lists of up to so many entries are one thing (a shape, a place) and are not cut, unless they are fields of the answer. */
const mostOfOne = 8;
/** Characters to which a text may be cut. */
const leastText = 100;
/** Lists named as less important are cut as if they were so many times their size. */
const weight = 16;

/** What an answer leaves out. */
export const leftOutSchema = z
  .array(z.object({ field: z.string(), shown: whole, of: whole }))
  .optional()
  .describe("what the limit leaves out: entries of lists, characters of texts; a higher limit shows them");

interface Part {
  readonly holder: Record<string, unknown>;
  readonly key: string;
  /** Keys from the answer down to it. */
  readonly steps: readonly string[];
  readonly least: number;
  readonly value: unknown[] | string;
}

/**
 * An answer as JSON of at most `limit` characters: the largest lists are cut from their ends, those of less importance
 * first, then the longest texts. What was left out is said in `leftOut`.
 * @throws InputError when it cannot be said so briefly.
 */
export function bounded(answer: unknown, limit: number, lessImportant: readonly string[]): Record<string, unknown> {
  const cut = JSON.parse(JSON.stringify(answer)) as Record<string, unknown>;
  const cuts = new Map<string, Part>();
  for (;;) {
    const leftOut = [...cuts].flatMap(([field, { steps, value }]) => {
      const shown = lengthAt(cut, steps);
      return shown === undefined ? [] : [{ field, shown, of: value.length }];
    });
    const whole = leftOut.length > 0 ? { ...cut, leftOut } : cut;
    const size = JSON.stringify(whole).length;
    if (size <= limit) return whole;
    const part = largest(cut, lessImportant);
    if (!part) throw new InputError(`limit: expected at least ${size} characters for this answer, found ${limit}`);
    const field = fieldOf(part.steps);
    if (!cuts.has(field)) cuts.set(field, part);
    const kept = Math.max(part.least, part.value.length >> 1);
    part.holder[part.key] = part.value.slice(0, kept);
  }
}

function largest(cut: Record<string, unknown>, lessImportant: readonly string[]): Part | undefined {
  const parts = partsOf(cut, [], lessImportant).filter(({ value, least }) => value.length > least);
  const lists = parts.filter(({ value }) => typeof value !== "string");
  const isLess = ({ steps }: Part) => lessImportant.some((field) => fieldOf(steps).startsWith(field));
  const sizeOf = (part: Part) => JSON.stringify(part.value).length * (isLess(part) ? weight : 1);
  let best: Part | undefined;
  let most = 0;
  for (const part of lists.length > 0 ? lists : parts) {
    const size = sizeOf(part);
    if (size > most) [best, most] = [part, size];
  }
  return best;
}

/** Every list and text that may be cut. */
function partsOf(value: unknown, above: readonly string[], lessImportant: readonly string[]): Part[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.entries(holder).flatMap(([key, inner]): Part[] => {
    const steps = [...above, key];
    const own = (least: number): Part => ({ holder, key, steps, least, value: inner as unknown[] | string });
    if (typeof inner === "string") return [own(leastText)];
    const deeper = partsOf(inner, steps, lessImportant);
    if (!Array.isArray(inner)) return deeper;
    return [own(leastOf(steps, lessImportant)), ...deeper];
  });
}

/** Entries that stay of a list, at the least. */
function leastOf(steps: readonly string[], lessImportant: readonly string[]): number {
  if (lessImportant.includes(fieldOf(steps))) return 0;
  return steps.length > 1 ? mostOfOne : 1;
}

function fieldOf(steps: readonly string[]): string {
  return steps.map((step, i) => (/^\d+$/.test(step) ? `[${step}]` : i > 0 ? `.${step}` : step)).join("");
}

/** undefined where a list above was cut before it. */
function lengthAt(cut: unknown, steps: readonly string[]): number | undefined {
  let value = cut;
  for (const step of steps) value = (value as Record<string, unknown> | undefined)?.[step];
  return typeof value === "string" || Array.isArray(value) ? value.length : undefined;
}
