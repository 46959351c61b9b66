import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { sharingFiles } from "./shared-worker.js";

const sharing = sharingFiles(new URL("..", import.meta.url).pathname);

it("files share a worker that keep to themselves, and no file does that mocks, spies or changes its process", () => {
  expect(sharing.length).toBeGreaterThan(80);
  expect(sharing).toContain("test/diagnose/family-faults.test.ts");
  // Itself, and what it imports: a mocked reader of reports would reach every file after it.
  for (const file of [
    "test/capture/plausibility.test.ts",
    "test/capture/tensor-reader.test.ts",
    "test/report/html.test.ts",
  ])
    expect(sharing).not.toContain(file);
  for (const file of sharing)
    expect(readFileSync(file, "utf8"), file).not.toMatch(
      /\bvi\.\w+\(|process\.(exitCode|chdir)|process\.env\S* \S*=|openTestDevice/,
    );
});
