import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { briefVerdict } from "./brief-verdict.js";
import { ranksOf, withoutTerms } from "./rank-recordings.js";

/** Recordings over gloo, products written out in torch: scripts/record_quantised_ranks.py. */
const folder = new URL("../golden/quantised-ranks", import.meta.url).pathname;
const copies = mkdtempSync(join(tmpdir(), "faultline-quantised-ranks-"));
afterAll(() => rmSync(copies, { recursive: true }));

const diagnoseRanks = (run: string, model: string) =>
  diagnose({ target: ranksOf(run), model: join(folder, model), quick: true });
const briefly = (run: string, model: string) => briefVerdict(ranksOf(run), join(folder, model));

/** The way in which the products of each recording round. */
const recipes: Record<string, string> = {
  "fp8-blocks": "operands-e4m3-scale-per-16-channels",
  "fp8-blocks-128": "operands-e4m3-scale-per-128-channels",
  "fp8-tensor": "operands-e4m3-fixed-scale",
  "fp8-rows": "operands-e4m3-scale-per-token",
  int8: "operands-int8-scale-per-token",
  "packed-int4": "weights-stored",
  awq: "weights-stored",
  gptq: "weights-stored",
  mxfp4: "operands-fp4-power-of-two-the-nearest-per-32-channels",
  nvfp4: "operands-fp4-e4m3-scale-per-16-channels",
};

/** Where scales are in the type between ops already, weights are dequantised as the reference does. */
const sameAs: Record<string, string> = { "weights-stored": "one-rounding" };

const runs = Object.keys(recipes).flatMap((format) =>
  readdirSync(join(folder, format))
    .filter((name) => name.endsWith("-ranks"))
    .map((name) => [format, name] as const),
);

describe("a correct run of a quantised checkpoint over ranks", () => {
  test("there is one of each format", () => {
    expect(readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory()).length).toBe(
      Object.keys(recipes).length,
    );
  });

  test.each(runs.filter(([, name]) => name === "2-ranks"))(
    "%s of %s is clean, and each rank rounds as its kernels do",
    { timeout: 30_000 },
    async (format, name) => {
      const verdict = await diagnoseRanks(join(folder, format, name), format);
      expect(verdict.verdict).toBe("clean");
      expect([...verdict.findings, ...verdict.causes, ...verdict.unchecked]).toEqual([]);
      const recipe = recipes[format]!;
      for (const unit of ["self_attn.q_proj", "self_attn.o_proj.partial.*", "mlp.down_proj.partial.*"]) {
        const told = verdict.recipes.find((found) => found.unit === `model.layers.*.${unit}`)!;
        expect([recipe, sameAs[recipe]], unit).toContain(told.recipe);
        expect(told.matched, unit).toBe(told.of);
      }
    },
  );

  test.each(runs.filter(([, name]) => name === "4-ranks"))(
    "%s of %s is clean where no term of a sum was recorded",
    { timeout: 30_000 },
    async (format, name) => {
      const verdict = await diagnoseRanks(withoutTerms(join(folder, format, name), copies), format);
      expect(verdict.verdict).toBe("clean");
      expect(verdict.findings).toEqual([]);
      const sum = verdict.recipes.find(({ unit }) => unit === "model.layers.*.mlp.down_proj");
      expect(sum).toMatchObject({ matched: 1, of: 1 });
    },
  );
});

interface Expected {
  readonly format: string;
  readonly cause: string;
  readonly units: readonly string[];
  /** Where the sum alone was recorded: the cause as well, if it can be told. */
  readonly hidden?: boolean;
}

const down = (...ranks: number[]) => ranks.map((rank) => `model.layers.0.mlp.down_proj.partial.${rank}`);

const faults: Record<string, Expected> = {
  "rank-missing": {
    format: "fp8-rows",
    cause: "rank-missing",
    units: ["model.layers.0.self_attn.o_proj"],
  },
  "bias-per-rank": {
    format: "fp8-blocks",
    cause: "bias-per-rank",
    units: ["model.layers.0.self_attn.o_proj.partial.1"],
  },
  "scales-of-first-rank": {
    format: "fp8-blocks",
    cause: "weight-scale-of-other-rank",
    units: down(1, 2, 3),
    hidden: true,
  },
  "row-scales-of-first-rank": {
    format: "fp8-rows",
    cause: "weight-scale-of-other-rank",
    units: ["model.layers.0.mlp.up_proj"],
  },
  "scales-of-other-rank": {
    format: "packed-int4",
    cause: "weight-scale-of-other-rank",
    units: ["model.layers.0.self_attn.o_proj.partial.1"],
  },
  "scale-missed": { format: "int8", cause: "weight-scale-missed", units: down(0, 1), hidden: true },
  "scale-of-next-group": { format: "nvfp4", cause: "weight-scale-shifted", units: down(0, 1) },
  "row-shards-reversed": { format: "awq", cause: "shards-in-another-order", units: down(0, 1) },
  "operand-scale-missed": { format: "fp8-tensor", cause: "operand-scale-missed", units: down(0, 1), hidden: true },
};

describe("a fault of ranks or formats in such a run", () => {
  test.each(Object.entries(faults))(
    "%s is named where it sits, and nothing else is",
    { timeout: 30_000 },
    async (run, { format, cause, units }) => {
      const verdict = await briefly(join(folder, format, run), format);
      expect(verdict.causes.map((found) => [found.cause, found.units, found.alternatives])).toEqual([
        [cause, units, []],
      ]);
      expect(verdict.findings.every((finding) => finding.cause === 0)).toBe(true);
    },
  );

  test.each(Object.entries(faults).filter(([, { hidden }]) => hidden))(
    "%s is named where no term of a sum was recorded",
    { timeout: 30_000 },
    async (run, { format, cause, units }) => {
      const verdict = await briefly(withoutTerms(join(folder, format, run), copies), format);
      const sum = units[0]!.replace(/\.partial\.\d+$/, "");
      expect(verdict.causes.map((found) => [found.cause, found.units])).toEqual([[cause, [sum]]]);
    },
  );
});
