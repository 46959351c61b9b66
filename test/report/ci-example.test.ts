import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { expect, it } from "vitest";
import { parseDocument } from "yaml";
import { z } from "zod";
import { diagnoseCommand } from "../../src/cli/diagnose.js";
import { mergeCommand } from "../../src/cli/merge.js";
import { formatOf } from "../../src/report/formats.js";

const root = new URL("../..", import.meta.url).pathname;
const commands = new Map<string, Command>(
  [diagnoseCommand(), mergeCommand()].map((command) => [command.name(), command]),
);

const workflow = z.looseObject({
  on: z.string(),
  permissions: z.record(z.string(), z.enum(["read", "write"])),
  jobs: z.record(
    z.string(),
    z.looseObject({
      steps: z.array(
        z.union([
          z.looseObject({ uses: z.string().regex(/^[\w-]+\/[\w./-]+@v\d+$/) }),
          z.looseObject({ run: z.string(), name: z.string() }),
        ]),
      ),
    }),
  ),
});

it("examples/ci is a workflow whose commands, options, files and reports exist", () => {
  const document = parseDocument(readFileSync(join(root, "examples/ci/faultline.yml"), "utf8"), { strict: true });
  expect([...document.errors, ...document.warnings]).toEqual([]);
  const { jobs } = workflow.parse(document.toJS());
  const steps = Object.values(jobs).flatMap((job) => job.steps);
  const lines = steps.flatMap((step) => ("run" in step ? String(step.run).split("\n") : []));
  const reports = new Set<string>();
  let ours = 0;
  for (const line of lines) {
    const script = /^python (\S+)/.exec(line)?.[1];
    if (script) expect(existsSync(join(root, script)), script).toBe(true);
    const called = /\bfaultline (\w+) ([^|&;>]*)/.exec(line.replace(/^(npm|pip) install.*/, ""));
    if (!called) continue;
    ours++;
    const command = commands.get(called[1]!);
    expect(command, line).toBeDefined();
    for (const [, option, value] of called[2]!.matchAll(/(--[\w-]+)(?: (\S+))?/g)) {
      expect(command!.options.map(({ long }) => long)).toContain(option);
      if (option === "--report") reports.add(value!);
    }
  }
  expect(ours).toBe(1);
  expect([...reports].map((file) => formatOf(file).id).toSorted()).toEqual(["junit", "markdown", "sarif"]);
  // What later steps read is what was written.
  const text = JSON.stringify(steps.filter((step) => !("run" in step) || !String(step.run).includes("--report")));
  for (const [file] of text.matchAll(/faultline\.(?:md|sarif|xml|html)/g)) expect(reports).toContain(file);
});
