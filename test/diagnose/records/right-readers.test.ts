import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { type Capture, type DenseRecord, isPagedRecord } from "../../../src/capture/capture.js";
import { openCapture } from "../../../src/capture/reader.js";
import { Investigation } from "../../../src/diagnose/check/investigation.js";
import { examine } from "../../../src/diagnose/records/examine.js";
import { randomSteps } from "../../../src/lab/batch.js";
import type { FaultContext, Injection } from "../../../src/lab/fault.js";
import { randomGenerator } from "../../../src/lab/random.js";
import { runLab } from "../../../src/lab/run.js";
import { writeTinyModel } from "../../../src/lab/tiny-model.js";
import { temporaryFolder } from "../../lab/folder.js";
import { changed, localFault } from "../causes/injections.js";

const folder = temporaryFolder();
const model = writeTinyModel(join(folder, "model"), { seed: 4, config: { num_hidden_layers: 2, vocab_size: 600 } });
const read = "model.layers.1.self_attn.q_rope";
const reader = "model.layers.1.self_attn.o_proj.input";
const open: Capture[] = [];
afterAll(() => {
  for (const capture of open) capture.close();
});

/** What the records say of a run of eight tokens whose attention is recorded as reading the unrotated queries. */
function examined(name: string, inject?: (context: FaultContext) => Injection) {
  const path = join(folder, `${name}.safetensors`);
  runLab({
    model,
    store: "bfloat16",
    path,
    steps: randomSteps(randomGenerator(7), 600, [[8]]),
    faults: inject ? [{ fault: localFault(inject), layers: [1], values: {} }] : [],
  });
  const capture = openCapture(path);
  open.push(capture);
  const recordOf = (value: string) =>
    capture.records.find((record) => record.name === value && !isPagedRecord(record)) as DenseRecord;
  const other = recordOf("model.layers.1.self_attn.q_norm");
  const own = recordOf(read);
  const view = { ...own.view, storage: "elsewhere" };
  const input: DenseRecord = { ...own, role: "input", by: "model.layers.1.self_attn", source: other.source, view };
  const records = [...capture.records, input];
  const run = new Investigation({ ...capture, records }, model.config, model.parameters);
  const checks = run.units().map((unit) => run.check(unit.name));
  const failing = checks.filter(({ excess }) => excess > 1);
  return { failing: failing.map(({ node }) => node.name), ...examine(run, failing) };
}

it("a unit that comes out right from what was produced is the accused seam's, and is not searched", () => {
  const { failing, rest, seams } = examined("right");
  expect(failing).toEqual([reader]);
  expect(seams.causes).toMatchObject([{ cause: "operand-differs", unit: read, readers: [reader] }]);
  expect(seams.causes[0]!.statement).toContain(`${reader} came of what was produced all the same`);
  expect(rest).toEqual([]);
});

it("one that is wrong by either is still to be explained", () => {
  const wrong = changed("self_attn.o_proj.input", (x, row) => (row > 2 ? 3 * x + 1 : x));
  const { failing, rest, seams } = examined("wrong", wrong);
  expect(failing).toEqual([reader]);
  expect(seams.causes).toMatchObject([{ cause: "operand-differs", unit: read }]);
  expect(seams.causes[0]!.readers).toBeUndefined();
  expect(rest.map(({ node }) => node.name)).toEqual([reader]);
});
