import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import { Generation } from "../../src/engine/serve/generation.js";
import { Recording } from "../../src/engine/serve/recording.js";
import { goldenGenerations, modelDirectory, openIshmael } from "../engine/ishmael.js";

it.each(["bfloat16"] as const)("a correct run in %s is clean: chunks, preemption, pages full of NaN", async (dtype) => {
  const { config, json, parameters } = openIshmael();
  const target = join(mkdtempSync(join(tmpdir(), "faultline-recorded-")), "run");
  const path = new ReferencePath({ config, parameters, pageCount: 10, pageSize: 4, dtype });
  const runtime = { name: "faultline reference", device: "cpu", dtype };
  // Layers 2 to 26 are one unit, as in a recording that saves space.
  const wants = (name: string) => !/layers\.([2-9]|1\d|2[0-6])\b/.test(name);
  const recorder = new Recording(target, { model: json, runtime, wants });
  const generation = new Generation(path, { chunk: 5, recorder, poison: 0x7fc07fc0 });
  for (const { prompt_ids } of goldenGenerations().slice(0, 4)) generation.add({ tokenIds: prompt_ids, maxTokens: 9 });
  await generation.run();
  expect(generation.scheduler.preemptions).toBeGreaterThan(0);
  const verdict = await diagnose({ target, model: modelDirectory, quick: true });
  expect(verdict.verdict).toBe("clean");
  expect(verdict.causes).toEqual([]);
  expect(Object.values(verdict.audits).map(({ pass }) => pass)).toEqual([true, true, true, true]);
});
