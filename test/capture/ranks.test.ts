import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openRun } from "../../src/capture/ranks.js";
import { CaptureWriter, contiguousStrides } from "../../src/capture/writer.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { RowTable } from "../../src/spec/rows.js";
import { encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { tinyEvaluator, writeTinyModel } from "./tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-capture-ranks-"));
afterAll(() => rmSync(folder, { recursive: true }));

const model = writeTinyModel(join(folder, "model"));
const step = { event: "step" as const, step: 0, seq_ids: [4], token_ids: [3, 10, 17, 24, 31, 6], qo_indptr: [0, 6] };
const rows = new RowTable();
rows.append({ step: 0, seqIds: step.seq_ids, tokenIds: step.token_ids, qoIndptr: step.qo_indptr });
const run = tinyEvaluator(model, rows);
const all = rows.rowsOf(0);

type Event = Record<string, unknown> & { event: string };

/** Which part of the values of one name a rank holds. */
interface Cut {
  readonly name: string;
  readonly axis: string;
  readonly part: number;
  readonly of: number;
}

/** The rows and columns of a part, by the rule of torch.chunk. */
function stretches({ axis, part, of }: Cut, rowCount: number, columns: number, heads = 1): [number[], number[]] {
  const units = axis === "t" ? rowCount : axis === "h" ? heads : columns;
  const each = Math.ceil(units / of);
  const width = axis === "h" ? columns / heads : 1;
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
  const [from, to] = [part * each * width, Math.min(units, (part + 1) * each) * width];
  return axis === "t" ? [range(from, to), range(0, columns)] : [range(0, rowCount), range(from, to)];
}

/** Every value of a correct run by one rank: whole, or some of them cut. */
function writeRank(directory: string, cut?: Cut): void {
  const writer = new CaptureWriter(directory, {});
  writer.step(step);
  for (const node of model.graph.nodes.values()) {
    if (/_cache$|^sample$|input$/.test(node.name)) continue;
    const { value } = run.read(node.name, all, "");
    const own = cut && node.name.endsWith(cut.name) ? cut : { name: "", axis: "c", part: 0, of: 1 };
    const [rowsHere, columnsHere] = stretches(own, all.length, node.columns, node.heads);
    const held = Float64Array.from(rowsHere.flatMap((r) => columnsHere.map((c) => value[r * node.columns + c]!)));
    const shape = [rowsHere.length, columnsHere.length];
    const view = {
      storage: node.name,
      epoch: 0,
      dtype: "bfloat16" as const,
      shape,
      strides: contiguousStrides(shape),
      offset: 0,
    };
    writer.dense(node.name, "output", view, encode(held, "bfloat16"));
  }
  writer.finishStep();
}

/** The recording of rank `rank` of `world`, its manifest and its events changed. */
function rank(
  name: string,
  manifest: Record<string, unknown>,
  change: (event: Event) => Event | undefined = (event) => event,
  from = join(folder, "whole"),
): string {
  const directory = join(folder, name);
  rmSync(directory, { recursive: true, force: true });
  cpSync(from, directory, { recursive: true });
  writeFileSync(
    join(directory, "manifest.json"),
    JSON.stringify({ format: "faultline-capture", version: 2, ...manifest }),
  );
  const path = join(directory, "events.jsonl");
  const lines = readFileSync(path, "utf8").trim().split("\n");
  const events = lines.flatMap((line) => change(JSON.parse(line) as Event) ?? []);
  writeFileSync(path, `${events.map((event) => JSON.stringify(event)).join("\n")}\n`);
  return directory;
}

writeRank(join(folder, "whole"));
const first = rank("rank0", { world: 2, rank: 0 });
const second = rank("rank1", { world: 2, rank: 1 });

/** A view of some columns of a value: a shard that needs no bytes of its own. */
const cut = (event: Event, axis: string, part: number, of: number): Event => {
  const view = event.view as { shape: number[]; strides: number[]; offset: number };
  const [tokens, columns] = view.shape as [number, number];
  const each = axis === "t" ? Math.ceil(tokens / of) : Math.ceil(columns / of);
  const size = axis === "t" ? tokens : columns;
  const count = Math.min(size, (part + 1) * each) - part * each;
  const shape = axis === "t" ? [count, columns] : [tokens, count];
  return { ...event, shard: { axis, part, of }, view: { ...view, shape, strides: [columns, 1] } };
};
const named = (event: Event, end: string) => typeof event.name === "string" && event.name.endsWith(end);

describe("capture format 2", () => {
  test("ranks in directories of their own are one run, in any order", async () => {
    for (const target of [
      [first, second],
      [second, first],
    ]) {
      const capture = openRun(target);
      expect(capture.ranks?.world).toBe(2);
      expect(capture.path).toBe(`${first} and 1 more`);
      const observations = new CaptureObservations(capture, model.graph);
      expect(observations.replicas.length).toBe(observations.names().length);
      capture.close();
    }
    expect((await diagnose({ target: [first, second], model: model.directory })).verdict).toBe("clean");
  });

  test("two ranks in one directory", async () => {
    const both = rank("both", { world: 2 }, (event) => (event.event === "value" ? { ...event, rank: 0 } : event));
    const path = join(both, "events.jsonl");
    const values = readFileSync(path, "utf8").trim().split("\n").slice(1);
    writeFileSync(path, `${values.map((line) => line.replace('"rank":0', '"rank":1')).join("\n")}\n`, { flag: "a" });
    const capture = openRun(both);
    expect([...capture.ranks!.steps.keys()]).toEqual([0, 1]);
    expect(capture.records.length).toBe(2 * values.length);
    capture.close();
    expect((await diagnose({ target: both, model: model.directory })).verdict).toBe("clean");
  });

  const cuts: [axis: string, name: string, of: number][] = [
    // 3 does not divide 16 columns: the last part is shorter.
    ["c", "mlp.down_proj", 3],
    ["t", "mlp.down_proj", 3],
    ["h", "self_attn.q_proj", 2],
    ["c", "self_attn.q_proj", 4],
  ];

  test.each(cuts)("parts of %s along %s are put together", (axis, name, of) => {
    const parts = Array.from({ length: of }, (_, part) => ({ name, axis, part, of }));
    const directories = parts.map((part, i) => {
      const source = join(folder, `source-${axis}-${of}-${i}`);
      writeRank(source, part);
      const { name: _, ...shard } = part;
      const cutHere = (event: Event) => (named(event, name) ? { ...event, shard } : event);
      return rank(`cut-${axis}-${of}-${i}`, { world: of, rank: i }, cutHere, source);
    });
    const capture = openRun(directories);
    const observations = new CaptureObservations(capture, model.graph);
    const value = `model.layers.0.${name}`;
    const [placed] = observations.denseRecords(value);
    expect(placed!.parts!.length).toBe(of);
    const { value: meant } = run.read(value, all, "");
    expect(observations.block(value, all)).toEqual(meant);
    for (const row of all) {
      const columns = model.graph.node(value).columns;
      expect(observations.output(value, row)!.value).toEqual(meant.subarray(row * columns, (row + 1) * columns));
    }
    capture.close();
  });

  test("a part that no rank recorded leaves the value unjudged", () => {
    const cutHere = rank("incomplete", { world: 1, rank: 0 }, (event) =>
      named(event, "q_proj") ? cut(event, "c", 0, 2) : event,
    );
    const capture = openRun(cutHere);
    const observations = new CaptureObservations(capture, model.graph);
    expect(observations.has("model.layers.0.self_attn.q_proj")).toBe(false);
    expect(observations.unknown).toContainEqual({
      value: "model.layers.0.self_attn.q_proj (step 0)",
      why: "part 1 of 2 was not recorded by any rank",
    });
    capture.close();
  });

  test("a rank that came further before a crash is cut to what all recorded", () => {
    const longer = rank("longer", { world: 2, rank: 1 });
    writeFileSync(join(longer, "events.jsonl"), `${JSON.stringify({ ...step, step: 1 })}\n`, { flag: "a" });
    const capture = openRun([first, longer]);
    expect(capture.steps.length).toBe(1);
    capture.close();
  });

  test("fields of version 2 mean nothing in version 1", () => {
    const old = rank("old", { version: 1 }, (event) => ({ ...event, rank: "first", shard: 7, partial: [] }));
    const capture = openRun(old);
    expect(capture.ranks).toBeUndefined();
    expect(capture.records.every((record) => !("rank" in record))).toBe(true);
    capture.close();
  });

  const value = (change: object) => (event: Event) => (event.event === "value" ? { ...event, ...change } : event);
  const refused: [what: string, target: () => string[], says: RegExp][] = [
    ["a missing rank", () => [first], /world: expected the recordings of all 2 ranks, rank 1 missing/],
    ["a rank twice", () => [first, rank("again", { world: 2, rank: 0 })], /rank: expected every rank once, rank 0/],
    ["other worlds", () => [first, rank("four", { world: 4, rank: 1 })], /world: expected 2, .* found 4/],
    ["no world", () => [rank("worldless", { rank: 0 })], /manifest\.json: world: /],
    [
      "a rank outside its world",
      () => [rank("outside", { world: 2, rank: 2 })],
      /rank: expected a rank of .* world of 2/,
    ],
    ["a world beyond bounds", () => [rank("vast", { world: 1e9, rank: 0 })], /manifest\.json: world: /],
    [
      "a value without a rank",
      () => [rank("rankless", { world: 1 })],
      /rank: expected the rank that recorded the value/,
    ],
    ["a recording without ranks beside", () => [first, join(folder, "whole")], /whole: expected a recording of a rank/],
    [
      "other tokens",
      () => [
        first,
        rank("other", { world: 2, rank: 1 }, (e) => (e.event === "step" ? { ...e, token_ids: [1, 2, 3, 4, 5, 6] } : e)),
      ],
      /token_ids of step 0: expected rank 1 to have what rank 0 has/,
    ],
    [
      "a part beyond its number",
      () => [rank("beyond", { world: 1, rank: 0 }, value({ shard: { axis: "c", part: 2, of: 2 } }))],
      /shard\.part: expected a number below `of`/,
    ],
    [
      "an axis that is none",
      () => [rank("axis", { world: 1, rank: 0 }, value({ shard: { axis: "x", part: 0, of: 2 } }))],
      /shard\.axis: /,
    ],
    [
      "a term beyond its number",
      () => [rank("term", { world: 1, rank: 0 }, value({ partial: { part: 5, of: 2 } }))],
      /partial\.part: expected a number below `of`/,
    ],
  ];

  test.each(refused)("refuses %s", (_, target, says) => {
    expect(() => openRun(target())).toThrow(InputError);
    expect(() => openRun(target())).toThrow(says);
  });

  const contradictions: [what: string, one: (e: Event) => Event, other: (e: Event) => Event, says: RegExp][] = [
    ["overlapping parts", (e) => cut(e, "c", 0, 2), (e) => cut(e, "c", 1, 4), /overlapping parts/],
    [
      "a part beside the whole",
      (e) => cut(e, "c", 0, 2),
      (e) => e,
      /expected parts of 2 along "c" .* found the whole value/,
    ],
    ["another axis", (e) => cut(e, "c", 0, 2), (e) => cut(e, "t", 1, 2), /overlapping parts/],
    [
      "sums of other numbers",
      (e) => ({ ...e, partial: { part: 0, of: 2 } }),
      (e) => ({ ...e, partial: { part: 1, of: 3 } }),
      /partial\.of: expected 2 as in its other terms, found 3/,
    ],
  ];

  test.each(contradictions)("refuses %s", (_, one, other, says) => {
    const only = (change: (e: Event) => Event) => (event: Event) => (named(event, "down_proj") ? change(event) : event);
    const target = [rank("a", { world: 2, rank: 0 }, only(one)), rank("b", { world: 2, rank: 1 }, only(other))];
    const capture = openRun(target);
    expect(() => new CaptureObservations(capture, model.graph)).toThrow(InputError);
    expect(() => new CaptureObservations(capture, model.graph)).toThrow(says);
    capture.close();
  });

  test("refuses a part recorded twice by one rank", () => {
    const twice = rank("twice", { world: 1, rank: 0 });
    const path = join(twice, "events.jsonl");
    writeFileSync(path, `${readFileSync(path, "utf8").trim().split("\n").at(-1)}\n`, { flag: "a" });
    const capture = openRun(twice);
    expect(() => new CaptureObservations(capture, model.graph)).toThrow(/expected one record of a part, found two/);
    capture.close();
  });
});
