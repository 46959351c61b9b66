import { z } from "zod";
import { diagnosisSchema } from "../diagnose/reference/reference-schema.js";
import { partSchema } from "../diagnose/threads/part-file.js";
import { benchmarkSchema } from "../engine/serve/benchmark-schema.js";
import { importedSchema } from "../importers/import-schema.js";
import { namesSchema } from "../importers/names-file.js";
import { sweepSchema } from "../lab/live/sweep-schema.js";
import { faultsSchema, labRunSchema } from "../lab/score-schema.js";
import { comparisonSchema } from "../report/comparison-schema.js";
import { reproSchema, unitFileSchema } from "../repro/unit-schema.js";
import { figuresSchema } from "./benchmark/figures-schema.js";
import { generatedSchema } from "./generate-schema.js";
import { unitAnswerSchema } from "./mcp/unit-schema.js";

/** Something faultline prints or writes as JSON, and the schema it is published under. */
export interface Output {
  /** What gives it. */
  readonly of: string;
  readonly schema: z.ZodType;
}

/** Every JSON output, by the name of its file in `schemas`. */
export const outputs: Readonly<Record<string, Output>> = {
  diagnose: { of: "faultline diagnose --json, faultline merge --json", schema: diagnosisSchema },
  part: { of: "the file of faultline diagnose --part", schema: partSchema },
  compare: { of: "faultline compare --json", schema: comparisonSchema },
  names: { of: "faultline names --json", schema: namesSchema },
  import: { of: "faultline import --json", schema: importedSchema },
  repro: { of: "faultline repro --json", schema: reproSchema },
  "repro-unit": { of: "unit.json of faultline repro", schema: unitFileSchema },
  unit: { of: "the tool unit of faultline mcp", schema: unitAnswerSchema },
  generate: { of: "faultline generate --json", schema: generatedSchema },
  sweep: { of: "faultline sweep --json", schema: sweepSchema },
  "lab-list": { of: "faultline lab list --json", schema: faultsSchema },
  "lab-run": { of: "faultline lab run --json", schema: labRunSchema },
  "bench-checker": { of: "faultline bench checker --json", schema: figuresSchema },
  "bench-engine": { of: "faultline bench engine --json", schema: benchmarkSchema },
};

/** A JSON Schema, or a part of one. */
export type JsonSchema = { readonly [key: string]: unknown };

/**
 * An output's JSON Schema, draft 2020-12. What it does not name may be there: fields are added.
 * @param closed refuse what the schema does not name: for tests of the outputs of this very version.
 */
export function schemaOf(name: string, closed = false): JsonSchema {
  const { of, schema } = outputs[name]!;
  // Without the input's side a schema forbids what it does not name.
  const made = z.toJSONSchema(schema, { target: "draft-2020-12", io: "input", reused: "inline" });
  const whole = { $schema: made.$schema, $id: `urn:faultline:${name}`, title: of, ...made };
  return opened(whole, closed) as JsonSchema;
}

/** The schema with every object of known fields open to others, or closed to them. */
function opened(part: unknown, closed: boolean): unknown {
  if (Array.isArray(part)) return part.map((item) => opened(item, closed));
  if (typeof part !== "object" || part === null) return part;
  // The ends of the safe integers say nothing.
  const says = (key: string, value: unknown) =>
    key === "additionalProperties" ? value !== false : Math.abs(Number(value)) !== Number.MAX_SAFE_INTEGER;
  const entries = Object.entries(part).filter(([key, value]) => says(key, value));
  const made = Object.fromEntries(entries.map(([key, value]) => [key, opened(value, closed)]));
  return closed && made.type === "object" && "properties" in made ? { ...made, additionalProperties: false } : made;
}
