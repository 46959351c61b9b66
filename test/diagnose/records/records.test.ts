import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Capture, type DenseRecord, isPagedRecord, type PagedRecord } from "../../../src/capture/capture.js";
import { openCapture } from "../../../src/capture/reader.js";
import { Investigation } from "../../../src/diagnose/check/investigation.js";
import { explainCache } from "../../../src/diagnose/records/cache-cause.js";
import { examine } from "../../../src/diagnose/records/examine.js";
import { checkMetadata } from "../../../src/diagnose/records/metadata.js";
import { createdNonFinite } from "../../../src/diagnose/records/non-finite.js";
import { checkParameters } from "../../../src/diagnose/records/parameters.js";
import { checkSeams } from "../../../src/diagnose/records/seams.js";
import { randomSteps } from "../../../src/lab/batch.js";
import { openLabModel } from "../../../src/lab/model.js";
import { randomGenerator } from "../../../src/lab/random.js";
import { runLab } from "../../../src/lab/run.js";
import { writeTinyModel } from "../../../src/lab/tiny-model.js";
import { temporaryFolder } from "../../lab/folder.js";
import { changed, localFault } from "../causes/injections.js";

const paged = openCapture("test/golden/paged_bf16");
const ishmael = openLabModel("models/ishmael-7m");
const folder = temporaryFolder();
const model = writeTinyModel(join(folder, "model"), { seed: 4, config: { num_hidden_layers: 2, vocab_size: 600 } });

/** A recorded run of so many tokens, with NaN in one row of a product. */
function dense(tokens: number): Capture {
  const path = join(folder, `${tokens}.safetensors`);
  const fault = localFault(changed("mlp.down_proj", (x, row) => (row === 3 ? Number.NaN : x)));
  runLab({
    model,
    store: "bfloat16",
    path,
    steps: randomSteps(randomGenerator(7), 600, [[tokens]]),
    faults: [{ fault, layers: [1], values: {} }],
  });
  return openCapture(path);
}
const run = dense(8);
const token = dense(1);
afterAll(() => {
  for (const capture of [paged, run, token]) capture.close();
});

const ofPaged = (capture: Capture) => new Investigation(capture, ishmael.config, ishmael.parameters);
const ofDense = (capture: Capture) => new Investigation(capture, model.config, model.parameters);
const causes = (found: readonly { cause: string }[]) => [...new Set(found.map(({ cause }) => cause))];
const recordOf = (capture: Capture, name: string) =>
  capture.records.find((record) => record.name === name && !isPagedRecord(record)) as DenseRecord;

describe("metadata", () => {
  it.each([
    ["positions-count", (step: Capture["steps"][number]) => ({ positions: step.positions!.slice(1) })],
    ["page-table-shape", (step: Capture["steps"][number]) => ({ kv_indptr: step.kv_indptr!.toReversed() })],
  ] as const)("%s", (cause, change) => {
    const steps = paged.steps.map((step, i) => (i === 0 ? { ...step, ...change(step) } : step));
    expect(causes(checkMetadata(ofPaged(paged)).causes)).toEqual([]);
    expect(causes(checkMetadata(ofPaged({ ...paged, steps })).causes)).toContain(cause);
  });
});

describe("a page table that is read wrongly", () => {
  const changedSteps = (change: (step: Capture["steps"][number], i: number) => Partial<Capture["steps"][number]>) => ({
    ...paged,
    steps: paged.steps.map((step, i) => ({ ...step, ...change(step, i) })),
  });
  const table = ({ kv_indptr, kv_indices, kv_last_page_len }: Capture["steps"][number]) => ({
    kv_indptr,
    kv_indices,
    kv_last_page_len,
  });
  const last = paged.steps.length - 1;

  it("dtype-bits: page numbers of 64 bits read as 32, and nothing that follows from it", () => {
    const wide = ({ kv_indices: indices }: Capture["steps"][number]) => ({
      kv_indices: indices!.map((_, i) => (i % 2 === 0 ? indices![i / 2]! : 0)),
    });
    const run = ofPaged(changedSteps((step, i) => (i === 0 ? wide(step) : {})));
    const { causes: found } = checkMetadata(run);
    expect(found).toMatchObject([
      { cause: "dtype-bits", unit: "kv_indices", step: 0, parameters: { written: "int64", read: "int32" } },
    ]);
    expect(examine(run, []).causes).toEqual(found);
  });

  it("page-table-stale: the table of an earlier step, in a step to which a sequence has grown by more than its tokens", () => {
    const planned = paged.steps.findLastIndex(
      ({ seq_ids: ids }, i) => i < last - 1 && ids.join() === paged.steps[last]!.seq_ids.join(),
    );
    const stale = (_: unknown, i: number) => (i > planned ? table(paged.steps[planned]!) : {});
    const { causes: found } = checkMetadata(ofPaged(changedSteps(stale)));
    expect(causes(found)).toEqual(["page-table-stale"]);
    expect(found.map(({ step }) => step)).toEqual(paged.steps.slice(planned + 1).map(({ step }) => step));
  });

  it("a length from before the token alone is named as that", () => {
    const short = (step: Capture["steps"][number], i: number) =>
      i === last ? { kv_last_page_len: step.kv_last_page_len!.map((length) => Math.max(1, length - 1)) } : {};
    expect(causes(checkMetadata(ofPaged(changedSteps(short))).causes)).toEqual(["last-page-length"]);
  });
});

describe("a dense value recorded on both sides", () => {
  const name = "model.layers.0.self_attn.q_rope";
  const own = recordOf(run, name);
  const other = recordOf(run, "model.layers.0.self_attn.q_norm");
  const elsewhere = recordOf(run, "model.layers.1.self_attn.q_norm");
  const seen = (input: Partial<DenseRecord>) => {
    const record = { ...own, role: "input", by: "model.layers.0.self_attn", ...input } as DenseRecord;
    return causes(checkSeams(ofDense({ ...run, records: [...run.records, record] })).causes);
  };

  it("is right where both hold the same", () => {
    expect(seen({})).toEqual([]);
  });

  it.each([
    ["query-unrotated", { source: other.source, view: { ...other.view, storage: "elsewhere" } }],
    ["operand-differs", { source: elsewhere.source, view: { ...own.view, storage: "elsewhere" } }],
    ["overwritten-before-read", { source: other.source, view: { ...own.view, epoch: (own.view.epoch ?? 0) + 1 } }],
    [
      "stride-mismatch",
      { source: other.source, view: { ...own.view, strides: own.view.strides.map((s) => (s > 1 ? s / 2 : s)) } },
    ],
  ] as const)("%s", (cause, input) => {
    expect(seen(input as Partial<DenseRecord>)).toEqual([cause]);
  });
});

describe("keys in pages", () => {
  const name = "model.layers.0.self_attn.k_cache";

  it("cache-overwritten: a page that was right when it was written holds another one when it is read", () => {
    const records = paged.records.map((record) => {
      if (!isPagedRecord(record) || record.role !== "input" || record.name !== name || record.step > 0) return record;
      const [first, second] = [...record.pages.keys()] as [number, number];
      return { ...record, pages: new Map(record.pages).set(first, record.pages.get(second)!) } as PagedRecord;
    });
    expect(causes(checkSeams(ofPaged(paged)).causes)).toEqual([]);
    expect(causes(checkSeams(ofPaged({ ...paged, records })).causes)).toEqual(["cache-overwritten"]);
  });

  const investigation = ofPaged(paged);
  const { observations } = investigation;
  const placed = observations.pagedRecords(name).find(({ record }) => record.role === "input")!;
  const type = observations.cachedType(placed)!;
  /** Keys of a sequence's first slots whose right content lies so many slots further on. */
  const wrong = (offsets: readonly number[]) =>
    offsets.map((offset, position) => {
      const slot = observations.readSlot(placed.stepIndex, 0, position)!;
      const at = (s: number) => observations.storedRow(placed, s)!.value.slice();
      return {
        key: { b: 0, position, row: position, slot },
        produced: { value: at(slot + offset), recorded: undefined },
        stored: at(slot),
      };
    });

  it.each([
    ["slot-shifted", [1, 1, 1]],
    ["slots-permuted", [2, 1, 3]],
  ] as const)("%s", (cause, offsets) => {
    expect(explainCache(investigation, name, placed, wrong(offsets), new Set(), type).cause).toBe(cause);
  });

  it("no other slot: those that hold what belongs there are not where an equal token's key should have been read", () => {
    const [zeros] = wrong([1]).map((key) => ({ ...key, stored: key.stored.map(() => 0) }));
    const own = new Set([zeros!.key.slot + 1]);
    expect(explainCache(investigation, name, placed, [zeros!], new Set(), type).cause).toBe("slot-shifted");
    expect(explainCache(investigation, name, placed, [zeros!], own, type).cause).toBe("cache-unwritten");
  });

  it("cache-of-other-layer: what that layer appended for the same tokens", () => {
    const appended = (layer: number, row: number) =>
      observations.output(`model.layers.${layer}.self_attn.k_rope`, row)!;
    const theirs = [0, 1].map((row) => ({
      key: { b: 0, position: row, row, slot: observations.readSlot(placed.stepIndex, 0, row)! },
      produced: { value: appended(0, row).value.map((x) => x + 3), recorded: undefined },
      stored: appended(2, row).value,
    }));
    expect(explainCache(investigation, name, placed, theirs, new Set(), type)).toMatchObject({
      cause: "cache-of-other-layer",
      parameters: { layer: 2, offset: 2 },
    });
  });

  it("cache-stale: each newest key is its predecessor's, which is not its own either", () => {
    const before = observations.output("model.layers.0.self_attn.k_rope", 1)!.value;
    const stale = [2, 3].map((row) => ({
      key: { b: 0, position: row, row, slot: observations.readSlot(placed.stepIndex, 0, row)! },
      produced: { value: before.map((x) => x + row), recorded: undefined },
      stored: before,
    }));
    expect(explainCache(investigation, name, placed, stale, new Set(), type).cause).toBe("cache-stale");
  });

  it("cache-differs: nothing that was recorded is there", () => {
    const nothing = wrong([1]).map((key) => ({
      ...key,
      produced: { value: key.stored.map((x) => x + 3), recorded: undefined },
      stored: key.stored.map((x) => x - 3),
    }));
    expect(explainCache(investigation, name, placed, nothing, new Set(), type).cause).toBe("cache-differs");
  });
});

it("parameter-differs: what is in memory against the checkpoint", () => {
  const held = recordOf(token, "model.norm");
  const record = { ...held, name: "model.norm.weight", view: { ...held.view, shape: [64] } };
  const { causes: found, compared } = checkParameters(ofDense({ ...token, records: [...token.records, record] }));
  expect(compared).toEqual(["model.norm.weight"]);
  expect(found).toMatchObject([{ cause: "parameter-differs", kind: "parameter", unit: "model.norm.weight" }]);
});

it("non-finite-created: NaN out of finite inputs, in the rows where it is", () => {
  const investigation = ofDense(run);
  const check = investigation.check("model.layers.1.mlp.down_proj");
  expect(createdNonFinite(investigation, [check])).toMatchObject([{ cause: "non-finite-created", rows: "3" }]);
  expect(createdNonFinite(investigation, [investigation.check("model.layers.0.mlp.down_proj")])).toEqual([]);
});
