import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { openCapture } from "../../../src/capture/reader.js";
import {
  appliesTo,
  type CauseId,
  catalogue,
  causesAt,
  hasRewrites,
  propose,
} from "../../../src/diagnose/causes/catalogue.js";
import { rankCauses } from "../../../src/diagnose/causes/ranks.js";
import { recordCauses } from "../../../src/diagnose/causes/record-causes.js";
import { Investigation } from "../../../src/diagnose/check/investigation.js";
import { openInvestigation } from "../../../src/diagnose/check/open-investigation.js";
import { choosePrecision } from "../../../src/diagnose/check/precision.js";
import { Judge } from "../../../src/diagnose/explain/judge.js";
import { type BatchLengths, randomSteps } from "../../../src/lab/batch.js";
import { findFault } from "../../../src/lab/catalogue.js";
import type { Situation } from "../../../src/lab/fault.js";
import { formatFaults, misreadWeight } from "../../../src/lab/faults/weight-formats.js";
import { writeQuantisedModel } from "../../../src/lab/quantised-model.js";
import { randomGenerator } from "../../../src/lab/random.js";
import { runLab } from "../../../src/lab/run.js";
import { type TinyFamily, writeTinyModel } from "../../../src/lab/tiny-model.js";
import type { CodecId } from "../../../src/lab/weight-codecs.js";
import { temporaryFolder } from "../../lab/folder.js";
import { localFault, named, type Shown } from "./injections.js";
import { shown } from "./shown.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 3, vocab_size: 600 };
const models = new Map(
  (["qwen3", "qwen2", "llama"] as const).map((family): [TinyFamily, ReturnType<typeof writeTinyModel>] => [
    family,
    writeTinyModel(join(folder, family), { family, seed: 4, config }),
  ]),
);

/** Tokens each sequence adds in each step: few. */
const lengthsOf: Partial<Record<Situation, BatchLengths>> = {
  chunked: [
    [5, 3],
    [4, 1],
  ],
  "decode-batch": [
    [6, 4],
    [1, 1],
    [1, 1],
  ],
  "last-token": [[6, 4]],
};

/** The run of a row, opened, with its units not judged yet. */
function investigate(id: string, row: Shown): Investigation {
  if (typeof row.fault === "object") {
    const isMixture = "mixture" in row.fault;
    const directory = isMixture
      ? join("test/golden/moe", row.fault.mixture)
      : join("test/golden/families", row.fault.family);
    const target = join(directory, isMixture ? "" : "faults", `${row.fault.name}.safetensors`);
    const opened = openInvestigation({ target, model: directory });
    onTestFinished(() => opened.close());
    return meant(opened.investigation, row);
  }
  if (row.misread) return investigateMisread(id, row.at, row.misread);
  const fault = typeof row.fault === "string" ? findFault(row.fault) : localFault(row.fault);
  const { family = "qwen3", store = "bfloat16", values = {}, padding, cache } = row;
  const model = row.keptIn ? kept(id, row.keptIn) : models.get(family)!;
  const lengths = row.lengths ?? lengthsOf[fault.situation] ?? [[12]];
  const plain = padding || (lengths.length === 1 && lengths[0]!.length === 1);
  const path = join(folder, `${id}${plain ? ".safetensors" : ""}`);
  runLab({
    model,
    store,
    path,
    steps: randomSteps(randomGenerator(7), model.config.vocabularySize, lengths),
    faults: [{ fault, layers: [1], values }],
    lastTokens: fault.situation === "last-token",
    ...(padding && { padding }),
    ...(cache && { cache }),
  });
  const capture = openCapture(path);
  onTestFinished(() => capture.close());
  const run = choosePrecision(new Investigation(capture, model.config, model.parameters));
  return meant(run, row);
}

/** The run judged by what the row says its model means. */
function meant(run: Investigation, row: Shown): Investigation {
  if (!row.meaning) return run;
  const node = run.graph.node(named(row.at));
  return run.withSpec(run.evaluator.rewritten([{ ...node, op: row.meaning(node) }]));
}

/** A model whose projections are in a weight format. */
function kept(id: string, codec: CodecId): ReturnType<typeof writeTinyModel> {
  const source = writeTinyModel(join(folder, `${id} plain`), {
    seed: 4,
    config: { ...config, intermediate_size: 160 },
  });
  const model = writeQuantisedModel(source, join(folder, `${id} ${codec}`), codec);
  source.parameters.close();
  onTestFinished(() => model.parameters.close());
  return model;
}

/** The same of a checkpoint in a weight format. */
function investigateMisread(id: string, at: string, [codec, misreading]: NonNullable<Shown["misread"]>): Investigation {
  const source = writeTinyModel(join(folder, `${id} plain`), {
    seed: 4,
    config: { ...config, intermediate_size: 160 },
  });
  const model = writeQuantisedModel(source, join(folder, `${id} ${codec}`), codec);
  const fault = formatFaults.find((one) => one.id === misreading)!;
  const path = join(folder, `${id}.safetensors`);
  runLab({
    model,
    store: "bfloat16",
    path,
    steps: randomSteps(randomGenerator(7), model.config.vocabularySize, [[12]]),
    injections: [misreadWeight(source, codec, `${named(at)}.weight`, fault, "bfloat16")],
  });
  const capture = openCapture(path);
  onTestFinished(() => {
    capture.close();
    source.parameters.close();
    model.parameters.close();
  });
  return choosePrecision(new Investigation(capture, model.config, model.parameters));
}

/** A value, with the recorded unit that it lies in. */
function proposalAt(investigation: Investigation, name: string) {
  const unit = investigation.units().find((node) => investigation.interior(node.name).some((n) => n.name === name))!;
  return { investigation, site: investigation.graph.node(name), finding: investigation.check(unit.name) };
}

describe("the catalogue", () => {
  const ids = Object.keys(catalogue) as CauseId[];

  it("has a run for every cause that rewrites find, and for no other", () => {
    expect(Object.keys(shown).sort()).toEqual(ids.filter((id) => !(id in recordCauses || id in rankCauses)).sort());
  });

  it("finds by rewrites all causes but those that only records show", () => {
    expect(ids.filter((id) => !hasRewrites(id)).sort()).toEqual(Object.keys(recordCauses).sort());
  });

  it("says one sentence of each, and what it is confused with are other causes", () => {
    for (const id of ids) {
      const { legend, hiddenBy, confusedWith = [], report } = catalogue[id];
      expect(legend, id).toMatch(/^[A-Z].*\.$/s);
      expect(hiddenBy, id).not.toMatch(/[.]$/);
      expect(confusedWith, id).not.toContain(id);
      expect(new Set(confusedWith).size, id).toBe(confusedWith.length);
      if (report) expect(report[0], id).toMatch(/^[\w.-]+\/[\w.-]+#\d+$/);
    }
  });

  it("proposes only what it was asked for, and everything when nothing was", () => {
    const proposal = proposalAt(investigate("asked", shown["norm-epsilon"]), named("input_layernorm"));
    const all = propose(proposal);
    const asked = propose(proposal, new Set<CauseId>(["norm-epsilon", "norm-twice"]));
    expect(new Set(asked.map(({ cause }) => cause))).toEqual(new Set(["norm-epsilon", "norm-twice"]));
    const groups = (some: typeof all) => some.map(({ group, statement }) => `${group} ${statement}`).sort();
    expect(groups(asked)).toEqual(groups(all.filter(({ cause }) => /^norm-(epsilon|twice)$/.test(cause))));
    const possible = causesAt(proposal);
    expect(all.every(({ cause }) => possible.includes(cause))).toBe(true);
  });
});

describe("a cause", () => {
  it.each(Object.entries(shown) as [CauseId, Shown][])("%s", { timeout: 60_000 }, (id, row) => {
    const investigation = investigate(id, row);
    const never = proposalAt(investigation, named(row.never ?? "mlp.act_fn"));
    expect(appliesTo(id, never), "where it cannot be").toBe(false);
    expect(propose(never, new Set([id]))).toEqual([]);
    const { node } = investigation.check(named(row.unit ?? row.at));
    const proposal = {
      investigation,
      site: investigation.graph.node(named(row.at)),
      finding: investigation.check(node.name),
    };
    expect(appliesTo(id, proposal), "where it is").toBe(true);
    const proposed = propose(proposal, new Set([id]));
    expect(proposed.every(({ cause }) => cause === id)).toBe(true);
    const judge = new Judge(investigation);
    expect(proposed.some((hypothesis) => judge.judge(proposal.finding, hypothesis) !== undefined)).toBe(true);
  });
});
