import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { reproCommand } from "../../src/cli/repro.js";
import { openInvestigation } from "../../src/diagnose/check/open-investigation.js";
import { withJudged } from "../../src/diagnose/street.js";
import { randomSteps } from "../../src/lab/batch.js";
import { catalogue } from "../../src/lab/catalogue.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { asStored } from "../../src/repro/criterion.js";
import { makeCase } from "../../src/repro/make-case.js";
import { isRight, type UnitCase } from "../../src/repro/unit-case.js";
import { writeRepro } from "../../src/repro/write-repro.js";
import type { DType } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { temporaryFolder } from "../lab/folder.js";
import { expectPublished } from "../published.js";
import { kernels } from "./kernels.js";
import { everyPytest, everyVitest, python } from "./runners.js";

const folder = temporaryFolder();
const written = join(folder, "written");
mkdirSync(written);
const model = writeTinyModel(join(folder, "model"), { seed: 6, config: { num_hidden_layers: 2, vocab_size: 300 } });

/** A run of the tiny model with one fault in its second layer. */
function faulty(id: string, lengths = [[9]], pages = false): { target: string; model: string } {
  const fault = catalogue.find((entry) => entry.id === id)!;
  const random = randomGenerator(41);
  const values = fault.parameters(random, model.config);
  const steps = randomSteps(random, 300, lengths);
  const path = join(folder, id);
  const cache = { dtype: "bfloat16", layout: "NHD", pageSize: 4, roundedReads: false } as const;
  runLab({ model, steps, store: "bfloat16", path, faults: [{ fault, layers: [1], values }], ...(pages && { cache }) });
  return { target: path, model: model.directory };
}

/** A copy of a correct run whose events are changed as a buggy host or reader would have made them. */
// biome-ignore lint/suspicious/noExplicitAny: events are edited as they lie in the file
function changed(name: string, from: string, change: (event: any) => object[]): { target: string } {
  const target = join(folder, name);
  cpSync(from, target, { recursive: true });
  const lines = readFileSync(join(target, "events.jsonl"), "utf8").trim().split("\n");
  const events = lines.flatMap((line) => change(JSON.parse(line)));
  writeFileSync(join(target, "events.jsonl"), events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  return { target };
}

const paged = "test/golden/paged_bf16";
const firstStep = (event: { step: number; event: string; name?: string }) =>
  event.step === 0 && (event.event !== "value" || /layers\.0\.|embed/.test(event.name!));

const sources: Record<string, () => { target: string; model: string }> = {
  product: () => faulty("I10-additive-constant"),
  attention: () => faulty("I56-causal-ahead"),
  norm: () => faulty("I02-norm-weight-absent"),
  rope: () => faulty("I23-rope-interleaved"),
  bits: () => faulty("I31-rope-frequencies-rounded"),
  residual: () => faulty("I63-residual-dropped"),
  experts: () => ({
    target: "test/golden/moe/mixtral/fault-gate-and-up-exchanged.safetensors",
    model: "test/golden/moe/mixtral",
  }),
  router: () => ({
    target: "test/golden/moe/qwen3_moe/fault-not-renormalised.safetensors",
    model: "test/golden/moe/qwen3_moe",
  }),
  cache: () => ({
    model: "models/ishmael-7m",
    ...changed("cache", paged, (event) => {
      if (!firstStep(event)) return [];
      if (event.role === "input" && event.view.pages) event.view.dtype = "float16";
      return [event];
    }),
  }),
  slots: () => ({
    model: "models/ishmael-7m",
    ...changed("slots", paged, (event) => {
      if (event.slot_mapping) event.slot_mapping = event.slot_mapping.map((slot: number) => slot + 1);
      return firstStep(event) ? [event] : [];
    }),
  }),
  seam: () => {
    const { target } = faulty("I70-logits-bits", [[4]]);
    const read = changed("seam", target, (event) => {
      if (!/0\.self_attn\.v_proj$/.test(event.name ?? "")) return [event];
      const [rows, columns] = event.view.shape;
      return [
        event,
        { ...event, role: "input", by: "attention", view: { ...event.view, strides: [1, rows], columns } },
      ];
    });
    return { ...read, model: model.directory };
  },
};

/** Units that are asked for by name are only checked; of the others the whole run is judged. */
const named: Record<string, string> = {
  product: "model.layers.1.mlp.up_proj",
  attention: "model.layers.1.self_attn.o_proj.input",
  norm: "model.layers.1.self_attn.k_norm",
  experts: "model.layers.1.mlp.experts",
  cache: "model.layers.0.self_attn.k_cache",
  seam: "model.layers.0.self_attn.v_proj",
};

async function caseOf(name: string): Promise<UnitCase> {
  const source = sources[name]!();
  const unit = named[name];
  if (!unit) return withJudged(source, (run) => makeCase(run));
  const { investigation, close } = openInvestigation(source);
  try {
    const isSeam = name === "cache" || name === "seam";
    const checks = isSeam ? [] : [investigation.check(unit)];
    return makeCase({ investigation, checks, causes: [], verdict: { causes: [], findings: [] } }, unit);
  } finally {
    close();
  }
}

const cases = new Map<string, UnitCase>();
beforeAll(async () => {
  for (const name of Object.keys(sources)) {
    const made = await caseOf(name);
    cases.set(name, made);
    expectPublished("repro", writeRepro(made, join(written, name)));
    expectPublished("repro-unit", readFileSync(join(written, name, "unit.json"), "utf8"));
  }
});

describe("a failing unit alone", () => {
  it.each([
    ["product", /up_proj$/, "rounding"],
    ["attention", /1\.self_attn\.o_proj\.input$/, "rounding"],
    ["norm", /k_norm$/, "rounding"],
    ["rope", /1\.self_attn\.[qk]_rope$/, "rounding"],
    ["bits", /1\.self_attn\.[qk]_rope$/, "bits"],
    ["residual", /layers\.1/, "rounding"],
    ["experts", /experts/, "rounding"],
    ["router", /gate|experts/, "rounding"],
    ["cache", /0\.self_attn\.[kv]_cache$/, "equal"],
    ["slots", /^slot_mapping$/, "equal"],
    ["seam", /0\.self_attn\.v_proj$/, "equal"],
  ])("%s: the record is wrong, what is meant is right", (name, unit, by) => {
    const made = cases.get(name)!;
    expect(made.unit).toMatch(unit);
    expect(made.criterion.by).toBe(by);
    expect(isRight(made.criterion, made.observed)).toBe(false);
    expect(isRight(made.criterion, asStored(made.criterion.expected, made.dtype as DType))).toBe(true);
    expect(made.criterion.farthest.some((distance) => Number.isFinite(distance))).toBe(true);
    expect(made.rows.length).toBeLessThanOrEqual(32);
    const size = readdirSync(join(written, name, "data")).reduce(
      (sum, file) => sum + readFileSync(join(written, name, "data", file)).length,
      0,
    );
    expect(size).toBeLessThan(2 ** 22);
  });

  it.each(Object.keys(kernels))("%s: a kernel that reads nothing but the folder passes", (name) => {
    const made = cases.get(name)!;
    const output = kernels[name]!(made);
    expect(output.length).toBe(made.observed.length);
    expect(isRight(made.criterion, asStored(output, made.dtype as DType))).toBe(true);
    // A wrong one does not.
    expect(
      isRight(
        made.criterion,
        asStored(
          output.map((x) => 1.1 * x),
          made.dtype as DType,
        ),
      ),
    ).toBe(false);
  });
});

/** No element alone is too far off: what a kernel with a bias of its own everywhere looks like. */
function allTogether(made: UnitCase): UnitCase {
  const { criterion } = made;
  const observed = criterion.expected.map((x, i) => x + 0.8 * criterion.farthest[i]!);
  return { ...made, observed };
}

describe("the files it writes", () => {
  const names = [...Object.keys(sources), "together"];
  const repaired = join(folder, "repaired");
  beforeAll(() => {
    const together = allTogether(cases.get("norm")!);
    expect(isRight({ ...together.criterion, meanSquare: Infinity }, together.observed)).toBe(true);
    writeRepro(together, join(written, "together"));
    cpSync(written, repaired, { recursive: true });
    for (const name of names) {
      const data = join(repaired, name, "data");
      copyFileSync(join(data, "expected.npy"), join(data, "observed.npy"));
    }
  });

  it("fail under vitest until the output is right", () => {
    expect(everyVitest(written)).toEqual({ passed: 0, failed: names.length });
    expect(everyVitest(repaired)).toEqual({ passed: names.length, failed: 0 });
  });

  const says = python
    ? `with ${python.runner}`
    : "NOT RUN: no Python with numpy was found, name one by FAULTLINE_PYTHON";
  it(`fail in Python until the output is right (${says})`, () => {
    if (!python) return;
    expect(everyPytest(python, written)).toEqual({ passed: 0, failed: names.length });
    expect(everyPytest(python, repaired)).toEqual({ passed: names.length, failed: 0 });
  });

  it("are written to a new folder alone", () => {
    expect(() => writeRepro(cases.get("norm")!, written)).toThrow(InputError);
    expect(() => writeRepro(cases.get("norm")!, join(folder, "none", "below"))).toThrow(/inside one that exists/);
    expect(existsSync(join(folder, "none"))).toBe(false);
  });

  it("know nothing of the spec, and say what is wrong", () => {
    for (const name of names) {
      expect(readdirSync(join(written, name)).sort()).toEqual(
        ["README.md", "data", "test_unit.py", "unit.json", "unit.test.mjs"].sort(),
      );
      const readme = readFileSync(join(written, name, "README.md"), "utf8");
      expect(readme.split("\n").length).toBeLessThan(12);
      expect(readme).toContain(cases.get(name === "together" ? "norm" : name)!.unit);
    }
  });
});

describe("faultline repro", () => {
  const run = (...words: string[]) => reproCommand().exitOverride().parseAsync(words, { from: "user" });
  const golden = "test/golden/hf_h200_bf16_sdpa_5_tokens.safetensors";

  it("refuses a run in which nothing fails, and an output that is there", async () => {
    const words = [golden, "--model", "models/ishmael-7m", "--out"];
    await expect(run(...words, join(folder, "clean"))).rejects.toThrow(/expected a run with a failing unit/);
    expect(existsSync(join(folder, "clean"))).toBe(false);
    await expect(run(...words, written)).rejects.toThrow(/expected a folder that does not exist yet/);
  });

  it("refuses a unit that is right, and one that nobody recorded", async () => {
    const options = { target: join(folder, "I63-residual-dropped"), model: model.directory };
    await withJudged(options, (run) => {
      expect(() => makeCase(run, "model.layers.0.self_attn.q_proj")).toThrow(/expected a unit that fails/);
      expect(() => makeCase(run, "../elsewhere")).toThrow(
        /expected a recorded unit that fails, such as model\.layers\.1/,
      );
    });
  });
});
