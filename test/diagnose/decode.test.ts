import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { families } from "../../src/spec/families/registry.js";
import { briefVerdict } from "./brief-verdict.js";
import { expectRecipes } from "./recipe-shares.js";

const models = ["test/golden/families", "test/golden/moe"].flatMap((folder) =>
  readdirSync(folder).map((family) => [family, join(folder, family)] as const),
);

/** What each fault of scripts/record_decode.py is called; a second decode reads what the first one kept. */
const causes: Readonly<Record<string, { readonly cause: string; readonly steps: readonly number[] }>> = {
  "position-too-far": { cause: "position-offset", steps: [1, 2] },
  "key-of-the-token-before": { cause: "cache-stale", steps: [1, 2] },
  "value-not-written": { cause: "cache-unwritten", steps: [1, 2] },
  "layers-exchanged": { cause: "cache-of-other-layer", steps: [2] },
  "sequences-exchanged": { cause: "page-table-wrong", steps: [2] },
};

test("every family that the spec knows was recorded decoding", () => {
  const recorded = models.map(([family]) => family);
  expect(recorded.sort()).toEqual(families.flatMap(({ modelTypes }) => modelTypes).sort());
});

describe.each(models)("%s, by transformers with its own cache", (_, model) => {
  test("decodes clean, every recipe named", async () => {
    const run = readdirSync(model).find((name) => name.startsWith("decode_bf16"))!;
    const verdict = await diagnose({ target: join(model, run), model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [], unchecked: [] });
    expect(verdict.recording.steps).toBeGreaterThanOrEqual(4);
    expectRecipes(verdict, (unit) => (/gate$|scores$/.test(unit) ? undefined : 0.98));
  });

  test.each(readdirSync(join(model, "decode_faults")))("%s is named in the steps where it is", async (fault) => {
    const verdict = await briefVerdict(join(model, "decode_faults", fault), model);
    const { cause, steps } = causes[fault]!;
    expect(verdict.verdict).toBe("fault");
    expect(new Set(verdict.causes.map((named) => named.cause))).toEqual(new Set([cause]));
    expect([...new Set(verdict.causes.flatMap((named) => named.steps))].sort()).toEqual(steps);
    expect(verdict.findings.filter((finding) => finding.cause === null)).toEqual([]);
    expect(verdict.proof.reproduced.matched).toBe(verdict.proof.reproduced.of);
  });
});
