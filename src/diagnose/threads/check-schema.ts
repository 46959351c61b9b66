import { z } from "zod";
import { phases } from "../../spec/phase.js";
import { dtypes } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import type { Investigation } from "../check/investigation.js";
import type { CheckOnWire } from "./wire.js";
import { hasRecipe } from "./wire.js";

/** JSON has no infinity and no NaN: their names stand for them. */
const notFinite = ["Infinity", "-Infinity", "NaN"] as const;
const number = z.union([z.number(), z.enum(notFinite).transform(Number)]);
const count = z.int().nonnegative();
const name = z.string().max(300);
const names = z.array(name).max(256);
const indices = z
  .array(count)
  .max(2 ** 20)
  .transform((list) => Int32Array.from(list));

const recipeOfPhase = z.object({
  store: z.enum(dtypes),
  ops: z.array(z.tuple([name, name])).max(256),
  kept: names,
  recomputed: names,
  phases: z.array(z.never()).max(0),
});
const recipe = recipeOfPhase.extend({
  phases: z.array(z.tuple([z.enum(phases), recipeOfPhase])).max(phases.length),
});

/** A unit's check as a file holds it, read as threads pass it on. */
export const checkSchema = z.object({
  name,
  recipe: recipe.optional(),
  bits: z
    .object({
      compared: count,
      equal: count,
      phases: z.partialRecord(z.enum(phases), z.object({ compared: count, equal: count })).optional(),
      beyond: count,
      surprise: number,
      ulps: number,
      worst: z.array(count).max(2 ** 16),
      rmsZ: number,
      maxZ: number,
    })
    .optional(),
  matched: z.boolean(),
  statistics: z.object({
    checked: count,
    total: count,
    rmsZ: number,
    maxZ: number,
    nonFinite: count,
    distinctRows: count,
  }),
  magnitude: z.object({
    largest: number,
    zeros: z.boolean(),
    constant: z.boolean(),
    notANumber: count,
    infinite: count,
  }),
  excess: number,
  coverage: z.object({ compared: count, summed: count, of: count }),
  suspects: z.object({ rows: indices, columns: indices }).optional(),
  settled: z
    .object({
      recipe,
      score: z.object({ equal: number, compared: number, matched: z.boolean() }),
      probes: names,
    })
    .optional(),
});

/** A check as JSON can hold it. */
export function toJson(check: CheckOnWire): unknown {
  return JSON.parse(
    JSON.stringify(check, (_, value: unknown) => {
      if (typeof value === "number" && !Number.isFinite(value)) return String(value);
      return value instanceof Int32Array ? [...value] : value;
    }),
  );
}

/**
 * A check that was read from a file, held against the recording it is of.
 * @throws InputError when it names a unit, a row, a column or a recipe that is not there.
 */
export function expectChecks(investigation: Investigation, check: CheckOnWire, where: string): void {
  const { graph, observations } = investigation;
  const units = new Set(investigation.units().map((unit) => unit.name));
  const fail = (what: string): never => {
    throw new InputError(`${where}: check of ${JSON.stringify(check.name)}: ${what}`);
  };
  if (!units.has(check.name)) fail("expected a unit of this recording");
  const rows = new Set(observations.outputRows(check.name));
  const { columns } = graph.node(check.name);
  const { suspects, settled, recipe } = check;
  if (suspects && ![...suspects.rows].every((row) => rows.has(row))) fail("suspects.rows: expected recorded rows");
  if (suspects && !suspects.columns.every((column) => column < columns))
    fail(`suspects.columns: expected columns below ${columns}`);
  const ways = (used = recipe) => (used ? [used, ...used.phases.map(([, own]) => own)] : []);
  for (const used of [...ways(), ...(settled ? ways(settled.recipe) : [])]) {
    const unknown = used.ops.find(([role, id]) => !hasRecipe(graph, role, id));
    if (unknown)
      fail(`recipe: expected recipes that the spec has, found ${JSON.stringify(unknown[1])} of ${unknown[0]}`);
  }
  if (settled && !settled.probes.every((probe) => units.has(probe))) fail("settled.probes: expected units");
}
