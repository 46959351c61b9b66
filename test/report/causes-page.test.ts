import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { causesPage } from "../../src/report/causes-page.js";

it("docs/causes.md is what the catalogue prints (npm run build && node scripts/print-causes.mjs)", () => {
  expect(readFileSync("docs/causes.md", "utf8")).toBe(causesPage());
});
