import { readFileSync } from "node:fs";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { expect } from "vitest";
import { schemaOf } from "../src/cli/outputs.js";

const validators = new Map<string, readonly ValidateFunction[]>();

/** The schema that is published for an output. */
export function published(name: string) {
  return JSON.parse(readFileSync(new URL(`../schemas/${name}.json`, import.meta.url), "utf8"));
}

/**
 * Expects an output to be what its published schema says, and to have nothing of which the schema does not know.
 * @param output what was printed, or what is to be printed as JSON.
 */
export function expectPublished(name: string, output: unknown): void {
  let both = validators.get(name);
  if (!both) {
    const ajv = () => new Ajv2020({ strict: true, strictTypes: false, allErrors: true });
    both = [published(name), schemaOf(name, true)].map((schema) => ajv().compile(schema));
    validators.set(name, both);
  }
  const json = typeof output === "string" ? JSON.parse(output) : JSON.parse(JSON.stringify(output));
  for (const validate of both) {
    validate(json);
    const errors = (validate.errors ?? []).map(
      ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
    );
    expect(errors, `${name}: ${errors[0]}`).toEqual([]);
  }
}
