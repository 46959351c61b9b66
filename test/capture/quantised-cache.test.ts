import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { compareCaptures } from "../../src/compare/compare.js";
import type { CacheScales } from "../../src/lab/cache-type.js";
import { legalImplementation } from "../../src/lab/legal.js";
import { randomGenerator } from "../../src/lab/random.js";
import type { DType } from "../../src/tensor/dtype.js";
import { briefVerdict } from "../diagnose/brief-verdict.js";
import { CacheRuns, changeEvents } from "./cache-runs.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-quantised-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const runs = new CacheRuns(folder, { num_hidden_layers: 3 });
const { model } = runs;

/** Scales of keys and of values by layer. */
const scaleOf = (name: string) => {
  const layer = Number(/layers\.(\d+)/.exec(name)![1]);
  return name.endsWith("k_cache") ? [0.05, 0.0625, 0.11][layer]! : [0.02, 0.03, 0.015625][layer]!;
};
const cacheName = (layer: number, side: "k" | "v") => `model.layers.${layer}.self_attn.${side}_cache`;

describe("a correct run with a narrow cache", () => {
  it.each<[DType, DType, ((name: string) => CacheScales) | undefined, string]>([
    ["bfloat16", "float8_e4m3fn", undefined, "without a scale"],
    ["bfloat16", "float8_e5m2", undefined, "without a scale"],
    ["float16", "float8_e4m3fn", (name) => ({ written: scaleOf(name) }), "with scales nobody recorded"],
    ["bfloat16", "float8_e4m3fn", (name) => ({ written: scaleOf(name) }), "with scales nobody recorded"],
    ["bfloat16", "float8_e5m2", (name) => ({ written: 4 * scaleOf(name) }), "with scales nobody recorded"],
    ["float32", "float8_e4m3fn", (name) => ({ written: scaleOf(name) }), "with scales nobody recorded"],
    [
      "bfloat16",
      "float8_e4m3fn",
      (name) => ({ written: scaleOf(name), claimed: { output: scaleOf(name) } }),
      "with scales the writer recorded",
    ],
    [
      "float32",
      "float8_e4m3fn",
      (name) => ({ written: scaleOf(name), claimed: { input: scaleOf(name) } }),
      "with scales the reader recorded",
    ],
    ["bfloat16", "float8_e4m3fn", () => ({ written: 0.001 }), "that saturates"],
    ["bfloat16", "int8", (name) => ({ written: scaleOf(name) }), "with scales nobody recorded"],
    ["float32", "bfloat16", undefined, "without a scale"],
    ["float16", "bfloat16", undefined, "without a scale"],
  ])("%s kept as %s, %s", async (store, dtype, scales, _) => {
    const target = runs.record({ dtype, combined: "page", ...(scales && { scales }) }, { store });
    const verdict = await briefVerdict(target, model.directory);
    expect(verdict.causes).toEqual([]);
    expect(verdict.findings).toEqual([]);
    expect(verdict.verdict).toBe("clean");
    expect(verdict.unchecked.filter(({ value }) => value.endsWith("_cache"))).toEqual([]);
  });

  it.each(["float8_e4m3fn", "int8"] as const)("kept as %s in other correct implementations", async (dtype) => {
    for (let draw = 0; draw < 4; draw++) {
      const store = draw % 3 === 2 ? "float32" : "bfloat16";
      const target = runs.record(
        {
          dtype,
          layout: draw % 2 ? "HND" : "NHD",
          scales: (name) => ({ written: scaleOf(name) }),
          roundedReads: draw % 4 === 3,
        },
        {
          store,
          implement: (graph) => legalImplementation(graph, model.parameters, store, randomGenerator(draw + 90)),
        },
      );
      const verdict = await briefVerdict(target, model.directory);
      expect(verdict.causes, `draw ${draw}`).toEqual([]);
      expect(verdict.findings, `draw ${draw}`).toEqual([]);
    }
  });

  it.each<[string, DType, (name: string) => CacheScales]>([
    ["of one scale", "float8_e4m3fn", () => ({ written: 0.03 })],
    ["of a scale per layer", "float8_e4m3fn", (name) => ({ written: scaleOf(name) })],
    ["of integers", "int8", () => ({ written: 0.03125 })],
    ["of bfloat16", "bfloat16", () => ({ written: 1 })],
  ])("%s in layers that were not recorded", async (_, dtype, scales) => {
    const target = runs.record({ dtype, scales }, { store: dtype === "bfloat16" ? "float32" : "bfloat16" });
    // All values of the layers are kept, and the pages of layer 0 alone.
    changeEvents(target, (event) => (/layers\.[12]\..*_cache/.test(event.name) ? undefined : event));
    const verdict = await briefVerdict(target, model.directory);
    expect(verdict.causes).toEqual([]);
    expect(verdict.findings).toEqual([]);
  });
});

/** The observations of a recording while `use` runs. */
function observe<T>(path: string, use: (observations: CaptureObservations) => T): T {
  const capture = openCapture(path);
  try {
    return use(new CaptureObservations(capture, model.graph));
  } finally {
    capture.close();
  }
}

describe("the format of a cache", () => {
  it("is what its views say", async () => {
    const path = runs.record({ dtype: "float8_e5m2", scales: () => ({ written: 0.3, claimed: { input: 0.3 } }) });
    observe(path, (observations) => {
      expect(observations.cacheFormat(cacheName(1, "k"))).toEqual({ dtype: "float8_e5m2", scale: 0.3, error: 0 });
    });
  });

  it("is read off its bytes, for keys and values of each layer by themselves", async () => {
    const path = runs.record({ dtype: "float8_e4m3fn", scales: (name) => ({ written: scaleOf(name) }) });
    observe(path, (observations) => {
      for (const layer of [0, 1, 2]) {
        for (const side of ["k", "v"] as const) {
          const name = cacheName(layer, side);
          const { scale, error, dtype } = observations.cacheFormat(name)!;
          expect(dtype).toBe("float8_e4m3fn");
          expect(Math.abs(scale! / scaleOf(name) - 1)).toBeLessThanOrEqual(error);
          expect(error).toBeLessThan(0.002);
        }
      }
      const row = observations.row(cacheName(0, "v"), 3, "model.layers.0.self_attn.o_proj.input", 2)!;
      const value = observations.output("model.layers.0.self_attn.v_proj", 3)!.value;
      for (const [i, x] of row.value.entries())
        expect(Math.abs(x - value[i]!)).toBeLessThanOrEqual(Math.abs(value[i]!) / 15 + 1e-3);
    });
  });

  it("is taken from other layers where a layer was not recorded", async () => {
    const agreeing = runs.record({ dtype: "float8_e4m3fn", scales: () => ({ written: 0.25 }) }, { layers: [0, 1] });
    observe(agreeing, (observations) => {
      expect(observations.cacheFormat(cacheName(2, "v"))).toEqual({ dtype: "float8_e4m3fn", scale: 0.25, error: 0 });
    });
    const differing = runs.record(
      { dtype: "float8_e4m3fn", scales: (name) => ({ written: scaleOf(name) }) },
      { layers: [0, 1] },
    );
    observe(differing, (observations) => {
      expect(observations.cacheFormat(cacheName(2, "k"))).toEqual({
        dtype: "float8_e4m3fn",
        scale: undefined,
        error: 0,
      });
      expect(observations.cacheFormat("model.norm")).toBeUndefined();
    });
    observe(runs.record({}, { layers: [0] }), (observations) => {
      expect(observations.cacheFormat(cacheName(2, "k"))).toEqual({ dtype: "bfloat16", scale: 1, error: 0 });
      expect(observations.graph).toBe(model.graph);
    });
  });

  it("stays unknown where nothing tells it, and such pages are not read", async () => {
    const path = runs.record({ dtype: "float8_e4m3fn", scales: (name) => ({ written: scaleOf(name) }) });
    changeEvents(path, (event) => (/k_rope|v_proj/.test(event.name) ? undefined : event));
    observe(path, (observations) => {
      expect(observations.cacheFormat(cacheName(0, "k"))).toEqual({
        dtype: "float8_e4m3fn",
        scale: undefined,
        error: 0,
      });
      expect(observations.output(cacheName(0, "k"), 0)).toBeUndefined();
      expect(observations.unknown.map(({ value }) => value)).toContain(cacheName(0, "k"));
    });
    const verdict = await briefVerdict(path, model.directory);
    expect(verdict.findings).toEqual([]);
    expect(verdict.unchecked).toContainEqual(expect.objectContaining({ value: cacheName(2, "v") }));
  });
});

describe("a scale that is wrong", () => {
  const right = (name: string) => (name.endsWith("k_cache") ? 0.05 : 0.02);
  const claims = (scale: number) => ({ output: scale, input: scale });

  it.each<[string, (name: string) => CacheScales, object]>([
    [
      "missed at the write",
      () => ({ written: 1, read: 0.05, claimed: claims(0.05) }),
      { at: "write", used: 1, expected: 0.05 },
    ],
    [
      "missed at the read",
      () => ({ written: 0.05, read: 1, claimed: { output: 0.05, input: 1 } }),
      { at: "read", used: 1, expected: 0.05 },
    ],
    [
      "inverted at the write",
      () => ({ written: 4, read: 0.25, claimed: claims(0.25) }),
      { at: "write", used: 4, expected: 0.25 },
    ],
    [
      "inverted at the read",
      () => ({ written: 0.25, read: 4, claimed: { output: 0.25, input: 4 } }),
      { at: "read", used: 4, expected: 0.25 },
    ],
    ["some other", () => ({ written: 0.3, read: 0.05, claimed: claims(0.05) }), { at: "write", expected: 0.05 }],
  ])("%s", async (title, scales, parameters) => {
    const target = runs.record({ dtype: "float8_e4m3fn", combined: "page", scales });
    const { causes } = await briefVerdict(target, model.directory);
    const [cause] = causes;
    expect(causes.length).toBe(1);
    expect(cause).toMatchObject({ cause: "cache-scale", kind: "seam", transform: "T8", layers: [0, 1, 2], parameters });
    const named = /missed|inverted/.exec(title)?.[0];
    if (named) expect(cause!.statement).toContain(named);
  });

  it.each<[string, string, (name: string) => CacheScales]>([
    [
      "of another layer",
      "that of layer 1",
      (name) => {
        const own = /layers\.1/.test(name) ? 0.02 : 0.05;
        return {
          written: own,
          read: /layers\.0/.test(name) ? 0.02 : own,
          claimed: { output: own, input: /layers\.0/.test(name) ? 0.02 : own },
        };
      },
    ],
    [
      "of the keys, for the values",
      "that of k_cache",
      (name) => ({ written: right(name), read: 0.05, claimed: { output: right(name), input: 0.05 } }),
    ],
  ])("%s", async (_, title, scales) => {
    const target = runs.record({ dtype: "float8_e4m3fn", scales });
    const cause = (await briefVerdict(target, model.directory)).causes.find((entry) => entry.cause === "cache-scale");
    expect(cause!.statement).toContain(title);
    expect(cause!.parameters).toMatchObject({ at: "read" });
  });

  it.each([
    ["the keys'", "k_cache", 1],
    ["the values'", "v_cache", 1],
    ["the values', inverted", "v_cache", 1 / 0.02],
  ])("%s, seen in attention alone", async (_, side, read) => {
    const scales = (name: string) => (name.endsWith(side) ? { written: right(name), read } : { written: right(name) });
    const target = runs.record({ dtype: "float8_e4m3fn", scales });
    const { causes } = await briefVerdict(target, model.directory);
    const named = causes.find((entry) => [entry.cause, ...entry.alternatives].includes("cache-scale"));
    expect(named).toMatchObject({ layers: [0, 1, 2] });
  });
});

describe("a fault beside a narrow cache", () => {
  it("does not hide behind an unknown scale: keys of another page", async () => {
    const target = runs.record({ dtype: "float8_e4m3fn", scales: (name) => ({ written: scaleOf(name) }) });
    const file = join(target, "events.jsonl");
    const lines = readFileSync(file, "utf8").trim().split("\n");
    const exchanged = lines.map((line) => {
      const event = JSON.parse(line);
      if (event.event !== "step" || event.step !== 2) return line;
      event.kv_indices.splice(0, 2, event.kv_indices[1], event.kv_indices[0]);
      return JSON.stringify(event);
    });
    writeFileSync(file, `${exchanged.join("\n")}\n`);
    const { causes } = await briefVerdict(target, model.directory);
    expect(causes.map(({ cause }) => cause)).toContain("page-table-wrong");
    expect(causes.map(({ cause }) => cause)).not.toContain("cache-scale");
  });

  it("is not blamed on the scale where only the reader's claim is wrong", async () => {
    const scales = () => ({ written: 0.05, read: 1, claimed: { input: 1 } });
    const target = runs.record({ dtype: "float8_e4m3fn", scales });
    const { causes } = await briefVerdict(target, model.directory);
    expect(causes.map(({ cause }) => cause)).toEqual(["cache-scale"]);
    expect(causes[0]!.parameters).toEqual({ at: "read", used: 1, expected: 0.05 });
  });
});

describe("comparing narrow caches", () => {
  it("says where they claim different scales", async () => {
    const record = (scale: number) =>
      runs.record({ dtype: "int8", scales: () => ({ written: 0.05, claimed: { output: scale } }) }, { layers: [0] });
    const captures = [openCapture(record(0.05)), openCapture(record(0.06))] as const;
    const { values } = compareCaptures(...captures, { graph: model.graph });
    for (const capture of captures) capture.close();
    const written = values.find(({ name, reference }) => name.endsWith("k_cache") && reference.role === "output")!;
    expect(written).toMatchObject({ differing: 0, notes: ["scale 0.05 / 0.06: kept numbers are compared"] });
  });
});

describe("scales in events.jsonl", () => {
  it.each([[0], [-1], [1e300], ["0.5"], [null]])("may not be %s", async (scale) => {
    const path = runs.record({}, { layers: [0] });
    changeEvents(path, (event) => ({ ...event, view: event.view.pages ? { ...event.view, scale } : event.view }));
    expect(() => openCapture(path)).toThrow(/view\.scale: /);
  });
});
