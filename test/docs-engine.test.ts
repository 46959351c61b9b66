import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const root = new URL("..", import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "faultline-docs-"));
afterAll(() => rmSync(folder, { recursive: true }));

const examples = [...readFileSync(new URL("docs/engine.md", root), "utf8").matchAll(/```js\n([\s\S]*?)```/g)];

/** Runs an example of docs/engine.md as it stands, against the built package. */
function run(index: number): string {
  const built = { faultline: "dist/index.js", "faultline/engine": "dist/engine/index.js" };
  let text = examples[index]![1]!;
  for (const [name, path] of Object.entries(built)) text = text.replaceAll(`"${name}"`, `"${new URL(path, root)}"`);
  const program = join(folder, `example-${index}.mjs`);
  writeFileSync(program, text);
  return execFileSync(process.execPath, [program], { cwd: new URL(".", root), encoding: "utf8" });
}

describe("the examples of docs/engine.md", () => {
  it("generate", () => expect(run(0)).toBe(" Some years ago—\n"));

  it("attend", () => {
    const [values, lse] = run(1).trim().split("\n");
    expect(values).toBe("1 1");
    expect(Number(lse)).toBeCloseTo(Math.log2(5) + Math.sqrt(8) * Math.LOG2E, 3);
    expect(examples).toHaveLength(2);
  });
});
