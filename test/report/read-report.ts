import { SaxesParser } from "saxes";
import { vi } from "vitest";
import { z } from "zod";
import { diagnoseCommand } from "../../src/cli/diagnose.js";
import type { Diagnosis } from "../../src/diagnose/reference/reference-report.js";
import { formatOf } from "../../src/report/formats.js";
import type { ReportContext } from "../../src/report/report-format.js";

/** What `faultline diagnose` prints, and its exit code. */
export async function diagnosed(...words: string[]): Promise<{ text: string; code: unknown }> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    await diagnoseCommand().exitOverride().parseAsync(words, { from: "user" });
    return { text: write.mock.calls.map(([text]) => String(text)).join(""), code: process.exitCode };
  } finally {
    write.mockRestore();
  }
}

/** The report of a verdict in the format of a name that ends so. */
export async function written(diagnosis: Diagnosis, extension: string): Promise<string> {
  const context: ReportContext = {
    run: { target: diagnosis.recording.path, model: "DIR" },
    command: ["faultline", "diagnose", diagnosis.recording.path, "--model", "DIR"],
    version: "1.2.3",
  };
  return String(await formatOf(`x${extension}`).write(diagnosis, context));
}

interface Element {
  readonly name: string;
  readonly attributes: Record<string, string>;
}

/** Elements of an XML 1.0 document; throws where it is none. */
export function elementsOf(xml: string): Element[] {
  const found: Element[] = [];
  const parser = new SaxesParser({ position: false });
  parser.on("error", (error) => {
    throw error;
  });
  parser.on("opentag", ({ name, attributes }) => found.push({ name, attributes: attributes as Element["attributes"] }));
  parser.write(xml).close();
  return found;
}

/** What SARIF 2.1.0 requires, and code scanning besides: a rule and a place for each result. */
const text = z.strictObject({ text: z.string().min(1), markdown: z.string().optional() });
const logical = z.strictObject({ name: z.string(), fullyQualifiedName: z.string(), kind: z.literal("module") });
export const sarif = z.strictObject({
  $schema: z.url(),
  version: z.literal("2.1.0"),
  properties: z.looseObject({}),
  runs: z.tuple([
    z.strictObject({
      tool: z.strictObject({
        driver: z.strictObject({
          name: z.literal("faultline"),
          version: z.string(),
          rules: z.array(z.strictObject({ id: z.string(), shortDescription: text, fullDescription: text, help: text })),
        }),
      }),
      automationDetails: z.strictObject({ id: z.string().endsWith("/") }),
      invocations: z.tuple([
        z.strictObject({ commandLine: z.string(), executionSuccessful: z.literal(true), exitCode: z.number() }),
      ]),
      results: z.array(
        z.strictObject({
          ruleId: z.string(),
          ruleIndex: z.int().min(0),
          level: z.enum(["error", "warning", "note"]),
          message: text,
          locations: z.tuple([
            z.strictObject({
              physicalLocation: z.strictObject({
                artifactLocation: z.strictObject({ uri: z.string().regex(/^[\w.~!*'()%:/-]+$/) }),
                region: z.strictObject({ startLine: z.literal(1) }),
              }),
              logicalLocations: z.tuple([logical]).optional(),
            }),
          ]),
          relatedLocations: z.array(z.strictObject({ id: z.int(), logicalLocations: z.tuple([logical]) })).optional(),
          partialFingerprints: z.record(z.string(), z.string()),
        }),
      ),
      properties: z.strictObject({ verdict: z.string(), summary: z.string() }),
    }),
  ]),
});
