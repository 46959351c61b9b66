import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnoseCommand } from "../../../src/cli/diagnose.js";
import { diagnose } from "../../../src/diagnose/diagnose.js";
import { promptSteps } from "../../../src/lab/batch.js";
import { catalogue } from "../../../src/lab/catalogue.js";
import { choose, integer } from "../../../src/lab/fault.js";
import { type Implementation, plainImplementation } from "../../../src/lab/legal.js";
import { randomGenerator } from "../../../src/lab/random.js";
import { type InjectedFault, type LabRun, type RunOptions, runLab } from "../../../src/lab/run.js";
import { writeTinyModel } from "../../../src/lab/tiny-model.js";
import { renderVerdict } from "../../../src/report/terminal.js";
import { RoundedArithmetic } from "../../../src/spec/arithmetic.js";
import type { Graph } from "../../../src/spec/graph.js";
import { operandFormat } from "../../../src/spec/narrow-operands.js";
import { type Recipe, UnitRecipe } from "../../../src/spec/recipe.js";
import type { Step } from "../../../src/spec/rows.js";
import { roleOf } from "../../../src/spec/site.js";
import type { DType } from "../../../src/tensor/dtype.js";
import { InputError } from "../../../src/tensor/errors.js";
import { temporaryFolder } from "../../lab/folder.js";
import { expectPublished } from "../../published.js";

const folder = temporaryFolder();
const model = writeTinyModel(join(folder, "model"), { seed: 5, config: { num_hidden_layers: 2, vocab_size: 160 } });
let recordings = 0;

type Shape = "prefill" | "decode" | "chunks" | "padded left" | "padded right" | "alone";
const shapes: readonly Shape[] = ["prefill", "decode", "chunks", "padded left", "padded right", "alone"];
const prompts = (random: () => number, count: number) =>
  Array.from({ length: count }, () => Array.from({ length: integer(random, 3, 6) }, () => integer(random, 0, 159)));

/** Steps that compute the prompts: the first `first` tokens of each at once, then so many at a time. */
function stepwise(texts: readonly (readonly number[])[], first: number, size: number): Step[] {
  const steps: Step[] = [];
  for (let at = 0; texts.some((text) => at < text.length); at += steps.length === 1 ? first : size) {
    const parts = texts.map((text, i) => ({ i, tokens: text.slice(at, at + (steps.length === 0 ? first : size)) }));
    const [step] = promptSteps(parts.filter(({ tokens }) => tokens.length > 0).map(({ tokens }) => tokens));
    const seqIds = parts.filter(({ tokens }) => tokens.length > 0).map(({ i }) => 7 + i);
    steps.push({ ...step!, step: steps.length, seqIds });
  }
  return steps;
}

/** Another order of sums and another way to round in every role: what kernels differ in. */
function drawImplementation(graph: Graph, store: DType, random: () => number): Implementation {
  const recipes = new Map<string, Recipe>();
  for (const node of graph.nodes.values()) {
    const usual = (node.op.recipes ?? []).filter(({ refines, settings }) => {
      const narrow = operandFormat(settings) || settings.angle === "tf32" || settings.fastExponential;
      return !refines && !narrow;
    });
    if (usual.length > 0 && !recipes.has(roleOf(node))) recipes.set(roleOf(node), choose(random, usual));
  }
  const arithmetic = new RoundedArithmetic({ block: choose(random, [1, 8, 32]), reversed: random() < 0.5 });
  return { ...plainImplementation(graph, store), arithmetic, recipe: new UnitRecipe(store, recipes) };
}

/** The same texts in another shape of run, with another correct implementation in another type. */
function record(
  texts: readonly (readonly number[])[],
  shape: Shape,
  random: () => number,
  more: Partial<RunOptions> & { plain?: boolean } = {},
): LabRun {
  const { plain = false, ...options } = more;
  const padded = shape.startsWith("padded");
  const store = options.store ?? choose(random, ["bfloat16", "float16", "float32"] as const);
  const steps = {
    prefill: () => promptSteps([...texts].reverse()),
    decode: () => stepwise(texts, integer(random, 1, 4), 1),
    chunks: () => stepwise(texts, 3, 3),
    alone: () => promptSteps([texts[0]!]),
  };
  const run = padded ? promptSteps(texts) : steps[shape as keyof typeof steps]();
  return runLab({
    model,
    store,
    steps: run,
    path: join(folder, `run-${recordings++}${padded ? ".safetensors" : ""}`),
    ...(!plain && { implement: (graph: Graph) => drawImplementation(graph, store, random) }),
    ...(padded && {
      padding: {
        side: shape === "padded left" ? "left" : "right",
        token: 0,
        rotary: choose(random, ["counts", "columns"] as const),
        recorded: ["attention_mask", "position_ids"],
      },
    }),
    ...(shape === "decode" && { cache: { dtype: store, layout: "NHD", pageSize: 4, roundedReads: false } }),
    ...options,
  });
}

async function beside(target: LabRun, reference: LabRun) {
  const options = { target: target.path, reference: reference.path, model: model.directory, quick: true };
  const diagnosis = await diagnose(options);
  expectPublished("diagnose", diagnosis);
  return diagnosis;
}

function injected(id: string, random: () => number): InjectedFault {
  const fault = catalogue.find((entry) => entry.id === id)!;
  return { fault, layers: [1], values: fault.parameters(random, model.config) };
}

describe("two correct runs of one text", () => {
  const pairs = Array.from({ length: 20 }, (_, i) => [i, shapes[i % 6]!, shapes[(i + 1 + Math.floor(i / 6)) % 6]!]);
  const cases = pairs as [number, Shape, Shape][];
  it.each(cases)("%i: %s and %s do not part beyond rounding", async (seed, ours, theirs) => {
    const random = randomGenerator(400 + seed);
    const texts = prompts(random, 2);
    const [target, reference] = [record(texts, ours, random), record(texts, theirs, random)];
    const { verdict, reference: report } = await beside(target, reference);
    expect(verdict).toBe("clean");
    expect(report!.verdict).toBe("clean");
    expect(report!.parting).toBeNull();
    expect(report!.shared).toEqual([]);
    for (const { state } of report!.values) expect(["same", "follows"]).toContain(state);
    // Every token that both computed is aligned, in whatever batch it was.
    const length = (shape: Shape) => (shape === "alone" ? texts[0]!.length : texts.flat().length);
    expect(report!.aligned.of).toBe(length(ours));
    expect(report!.aligned.rows).toBe(Math.min(length(ours), length(theirs)));
  });
});

const faults = ["I63-residual-dropped", "I15-norm-missing", "C14-input-not-normed", "I10-additive-constant"];

describe("a fault in one of two runs", () => {
  it.each(faults)("%s is where they part, and the run that has it is the wrong one", async (id) => {
    const random = randomGenerator(31);
    const texts = prompts(random, 2);
    const wrong = record(texts, "chunks", random, { faults: [injected(id, random)], store: "bfloat16", plain: true });
    const right = record(texts, "prefill", random, { store: "float32" });
    const inTarget = await beside(wrong, right);
    expect(wrong.bad).toContain(inTarget.reference!.parting!.unit);
    expect(inTarget.reference!.parting).toMatchObject({ wrong: "target", other: "right", layer: 1, step: 0 });
    expect(inTarget.reference!.summary).toMatch(/the target departs from the model there, the reference does not/);
    // The verdict speaks of the target alone.
    expect(inTarget.verdict).toBe("fault");
    if (id !== faults[0]) return;
    const inReference = await beside(right, wrong);
    expect(inReference.verdict).toBe("clean");
    expect(inReference.reference!.verdict).toBe("fault");
    expect(inReference.reference!.parting).toMatchObject({ wrong: "reference", other: "right" });
    expect(wrong.bad).toContain(inReference.reference!.parting!.unit);
    expect(inReference.reference!.summary).toMatch(/the reference is the wrong one/);
  });
});

describe("a reference that recorded less", () => {
  it("tells by the values that rest on it, or says that it does not", async () => {
    const random = randomGenerator(38);
    const texts = prompts(random, 2);
    const fault = injected("I15-norm-missing", random);
    const wrong = record(texts, "chunks", random, { faults: [fault], store: "bfloat16", plain: true });
    const streams = record(texts, "prefill", random, { store: "bfloat16", plain: true, streamOnly: true });
    const { parting, aligned } = (await beside(wrong, streams)).reference!;
    expect(parting).toMatchObject({ wrong: "target", other: "right", layer: 1 });
    expect(aligned.onlyInTarget).toContain(parting!.unit);
    expect(aligned.values).toBeLessThan(6);
  });
});

describe("faults in both runs", () => {
  it.each(faults.slice(0, 2))("%s in both is said to be the same", async (id) => {
    const random = randomGenerator(32);
    const texts = prompts(random, 2);
    const fault = { faults: [injected(id, random)], plain: true };
    const target = record(texts, "chunks", random, { ...fault, store: "bfloat16" });
    const reference = record(texts, "prefill", random, { ...fault, store: "float16" });
    const diagnosis = await beside(target, reference);
    const { verdict, causes, reference: report } = diagnosis;
    expect(verdict).toBe("fault");
    expect(report!.parting).toBeNull();
    const text = renderVerdict(diagnosis, { colors: false });
    expect(text).toMatch(/Beside the reference\n {2}The runs do not part beyond rounding, and both are wrong/);
    expect(text).toMatch(/wrong alike/);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    expect(report!.shared.map((fault) => causes[fault.target!]!.cause)).toEqual(causes.map(({ cause }) => cause));
    expect(report!.summary).toMatch(/Both have the same fault/);
    expect(report!.values.some(({ state }) => state === "shared")).toBe(true);
  });

  it("the same kind with another number is not the same fault", async () => {
    const random = randomGenerator(33);
    const texts = prompts(random, 2);
    const { fault } = injected("C7.09-scaled", random);
    const scaled = (values: InjectedFault["values"]) =>
      record(texts, "prefill", random, { faults: [{ fault, layers: [1], values }], store: "bfloat16", plain: true });
    const values = fault.parameters(random, model.config);
    const key = Object.keys(values).find((name) => typeof values[name] === "number")!;
    const report = (await beside(scaled(values), scaled({ ...values, [key]: (values[key] as number) * 1.7 })))
      .reference!;
    expect(report.shared).toEqual([]);
    expect(report.parting).toMatchObject({ wrong: "both" });
  });

  it("a second fault is where they part when the first is in both", async () => {
    const random = randomGenerator(34);
    const texts = prompts(random, 2);
    const [first, second] = [injected("I15-norm-missing", random), injected("I09-gate-up-swapped", random)];
    const both = record(texts, "prefill", random, { faults: [first, second], store: "bfloat16", plain: true });
    const one = record(texts, "prefill", random, { faults: [first], store: "bfloat16", plain: true });
    const { reference: report } = await beside(both, one);
    expect(report!.shared).toHaveLength(1);
    expect(report!.parting!.wrong).toBe("target");
    expect(report!.parting!.unit).toMatch(/mlp/);
  });
});

describe("what two runs do not have in common", () => {
  it("is refused where it is everything", async () => {
    const random = randomGenerator(35);
    const [a, b] = [record([[1, 2, 3]], "prefill", random), record([[4, 5, 6]], "prefill", random)];
    await expect(beside(a, b)).rejects.toThrow(InputError);
    await expect(beside(a, b)).rejects.toThrow(/expected a run of the tokens of/);
  });

  it("is said where the texts go on differently", async () => {
    const random = randomGenerator(36);
    const target = record([[1, 2, 3, 4, 5]], "decode", random);
    const reference = record([[1, 2, 3, 9, 5]], "decode", random);
    const { aligned, parting } = (await beside(target, reference)).reference!;
    expect(aligned).toMatchObject({ rows: 3, of: 5 });
    expect(aligned.forks).toEqual([{ sequence: 7, position: 3, target: 4, reference: 9 }]);
    expect(parting).toBeNull();
  });

  it("tells nothing of a fault in rows that the reference did not compute", async () => {
    const random = randomGenerator(37);
    const fault = catalogue.find(({ id }) => id === "C9.13-rows-unwritten")!;
    const texts = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]];
    const values = fault.parameters(random, model.config);
    const options = { faults: [{ fault, layers: [1], values }], store: "bfloat16" as const, plain: true };
    const target = record(texts, "prefill", random, options);
    const reference = record([texts[0]!.slice(0, 2)], "prefill", random);
    const { verdict, reference: report } = await beside(target, reference);
    expect(verdict).toBe("fault");
    expect(report!.aligned.rows).toBe(2);
    expect(report!.parting).toBeNull();
    expect(report!.summary).toMatch(/10 of 12 rows have no counterpart/);
  });
});

describe("runs over several ranks", () => {
  const ranks = (run: string, count: number) =>
    Array.from({ length: count }, (_, rank) => join("test/golden/ranks", run, `rank${rank}`));

  it("are put beside runs over other numbers of ranks, in other types and steps", async () => {
    const target = ranks("clean/qwen3-2-ranks-bf16", 2);
    const reference = ranks("clean/qwen3-4-ranks-fp32", 4);
    const options = { target, reference, model: "test/golden/ranks/models/qwen3", quick: true };
    const { parting, aligned } = (await diagnose(options)).reference!;
    expect(parting).toBeNull();
    expect(aligned).toMatchObject({ rows: 14, of: 16, values: 51 });
    expect(aligned.differences).toContain("ranks 2 / 4");
  });
});

describe("faultline diagnose --reference", () => {
  const wrong = "test/golden/faults/rope_position_k.safetensors";

  it("is not taken beside shares", async () => {
    const words = [wrong, "--model", "models/ishmael-7m", "--reference", wrong, "--part", "1/2", "--out", "none.json"];
    const running = diagnoseCommand().exitOverride().parseAsync(words, { from: "user" });
    await expect(running).rejects.toThrow(/--reference: expected a whole diagnosis/);
  });
});
