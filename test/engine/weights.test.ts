import { describe, expect, it } from "vitest";
import type { Backend, DeviceBuffer } from "../../src/engine/device/backend.js";
import { type CompiledStep, expectUndisturbed } from "../../src/engine/device/compiled-step.js";
import { slotsOf } from "../../src/engine/device/packing.js";
import type { ParameterBytes } from "../../src/engine/device/parameter-source.js";
import { placeValues } from "../../src/engine/device/places.js";
import { loadWeights, randomWeights } from "../../src/engine/device/weights.js";
import { valuesRead, valuesWritten } from "../../src/engine/program/dataflow.js";
import { standardProgram } from "../../src/engine/program/standard-program.js";
import { Graph } from "../../src/spec/graph.js";
import { decoderGraph, expectedParameters } from "../../src/spec/models/decoder.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { tinyBytes, tinyConfig, tinyParameters } from "./tiny-model.js";

/** Memory of the host behind the few calls that loading weights makes. */
class HostMemory {
  readonly bytes = new Map<DeviceBuffer, Uint8Array>();

  requireWidths(): void {}

  buffer(label: string, byteLength: number): DeviceBuffer {
    const buffer = { label, size: byteLength, destroy: () => void this.bytes.delete(buffer) };
    this.bytes.set(buffer, new Uint8Array(byteLength));
    return buffer;
  }

  write(buffer: DeviceBuffer, at: number, data: ArrayBufferView): void {
    this.bytes.get(buffer)!.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
  }
}

const parameters = tinyParameters();
const layer = "model.layers.1.";
const open = () => {
  const memory = new HostMemory();
  return { memory, backend: memory as unknown as Backend };
};

/** The tiny model's bytes with one entry changed. */
function changed(name: string, entry: Partial<NonNullable<ReturnType<ParameterBytes["entry"]>>> | undefined) {
  const bytes = tinyBytes(parameters);
  return {
    ...bytes,
    entry: (asked: string) => (asked === name ? entry && { ...bytes.entry(asked)!, ...entry } : bytes.entry(asked)),
  };
}

describe("weights in device memory", () => {
  it("have a slot for every parameter, some of them together", () => {
    const slots = slotsOf(tinyConfig);
    const names = slots.flatMap((slot) => slot.parameters.map(({ name }) => name));
    expect(names.sort()).toEqual([...expectedParameters(tinyConfig).keys()].sort());
    const together = slots.filter((slot) => slot.parameters.length > 1).map(({ label }) => label);
    expect(together).toEqual(["qkv", "qk_norm", "gate+up", "qkv", "qk_norm", "gate+up"]);
  });

  it("lie as the checkpoint has them, those of a slot one after the other", async () => {
    const { memory, backend } = open();
    const weights = await loadWeights(backend, tinyConfig, tinyBytes(parameters));
    for (const [name, shape] of expectedParameters(tinyConfig)) {
      const expected = [...parameters.rows(name, 0, shape.length === 1 ? 1 : shape[0]!)].map(Math.fround);
      const vector = shape.length === 1 ? weights.vector(name) : undefined;
      const matrix = vector ? undefined : weights.matrix(name);
      const first = vector ? vector.offset : matrix!.firstRow * matrix!.matrix.columns;
      const stored = decode(memory.bytes.get(vector?.buffer ?? matrix!.matrix.buffer)!, "float32");
      expect([...stored.subarray(first, first + expected.length)], name).toEqual(expected);
    }
    const qkv = ["q", "k", "v"].map((side) => `${layer}self_attn.${side}_proj.weight`);
    expect(weights.slotOf(qkv)).toBe("qkv");
    expect(weights.slotOf(qkv.toReversed())).toBeUndefined();
    expect(weights.slotOf(qkv.slice(1))).toBeUndefined();
    expect(weights.matrix(qkv[1]!).firstRow).toBe(weights.matrix(qkv[0]!).rowCount);
    expect(weights.byteLength).toBe([...memory.bytes.values()].reduce((sum, bytes) => sum + bytes.length, 0));
    weights.destroy();
    expect(memory.bytes.size).toBe(0);
  });

  it("of different types in one slot are joined in float32", async () => {
    const { memory, backend } = open();
    const name = `${layer}self_attn.k_proj.weight`;
    const mixed = changed(name, { dtype: "bfloat16" });
    const bytes: ParameterBytes["bytes"] = (asked, first, count) =>
      asked === name ? encode(parameters.rows(name, first!, count!), "bfloat16") : mixed.bytes(asked, first, count);
    const weights = await loadWeights(backend, tinyConfig, { ...mixed, bytes });
    const { matrix, firstRow } = weights.matrix(name);
    expect(matrix.dtype).toBe("float32");
    const stored = decode(memory.bytes.get(matrix.buffer)!, "float32")[firstRow * matrix.columns]!;
    expect(stored).toBe(decode(encode(parameters.rows(name, 0, 1), "bfloat16"), "bfloat16")[0]);
  });

  it("that are missing or of another shape are named", async () => {
    const { backend } = open();
    const name = `${layer}mlp.up_proj.weight`;
    await expect(loadWeights(backend, tinyConfig, changed(name, undefined))).rejects.toThrow(
      `tiny: the checkpoint has no parameter "${name}"`,
    );
    await expect(loadWeights(backend, tinyConfig, changed(name, { shape: [48, 31] }))).rejects.toThrow(
      `${name}: expected shape [48,32], found shape [48,31]`,
    );
  });

  it("at random are normal, of the spread asked for", async () => {
    const { memory, backend } = open();
    const weights = await randomWeights(backend, tinyConfig, "float32");
    const values = decode(memory.bytes.get(weights.matrix("lm_head.weight").matrix.buffer)!, "float32");
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
    // 3,104 numbers: within five standard errors.
    expect(Math.abs(mean)).toBeLessThan((5 * 0.02) / Math.sqrt(values.length));
    expect(Math.abs(spread / 0.02 - 1)).toBeLessThan(5 / Math.sqrt(2 * values.length));
  });
});

describe("places of values", () => {
  it("are shared by layers, and by no two values of one layer", async () => {
    const { backend } = open();
    const graph = decoderGraph(tinyConfig);
    const weights = await loadWeights(backend, tinyConfig, tinyBytes(parameters));
    const { places } = placeValues(backend, graph, weights, { maxRows: 8, maxSequences: 2 });
    for (const node of graph.nodes.values()) {
      const place = places.get(node.name);
      if (!place || node.layer !== 1) continue;
      expect(place, node.name).toEqual(places.get(node.name.replace("layers.1", "layers.0")));
    }
    const own = [...places].filter(([name]) => graph.node(name).layer === 1);
    expect(new Set(own.map(([, { buffer, offset }]) => `${buffer.label} ${offset}`)).size).toBe(own.length);
    const [q, k, v] = ["q", "k", "v"].map((side) => places.get(`${layer}self_attn.${side}_proj`)!);
    expect([q!.offset, k!.offset, v!.offset, q!.rowStride]).toEqual([0, 64, 96, 128]);
    expect(k!.buffer).toBe(q!.buffer);
    expect(places.get("lm_head")!.per).toBe("sequence");
  });

  it("keep the stream where layers have different values", async () => {
    const { backend } = open();
    const weights = await loadWeights(backend, tinyConfig, tinyBytes(parameters));
    const attn = "model.layers.0.self_attn";
    const nodes = [...decoderGraph(tinyConfig).nodes.values()]
      .filter(({ name }) => name !== `${attn}.q_norm` && name !== `${attn}.k_norm`)
      .map((node) => ({ ...node, inputs: node.inputs.map((name) => name.replace(/(layers.0.*_)norm$/, "$1proj")) }));
    const graph = new Graph(nodes);
    const { places } = placeValues(backend, graph, weights, { maxRows: 8, maxSequences: 2 });
    const tap = (name: string) => ({ name, buffer: places.get(name)!.buffer, place: places.get(name)! });
    const dense = (names: readonly string[]) => names.filter((name) => places.has(name)).map(tap);
    const steps = standardProgram(graph).map((step) => ({
      label: step.label,
      launches: [],
      reads: dense(valuesRead(graph, step)),
      writes: dense(valuesWritten(graph, step)),
    }));
    expectUndisturbed(steps);
    expect(places.get("model.layers.0")).toEqual(places.get("model.layers.1"));
  });

  it("are checked: a value that was overwritten before it is read is an error", () => {
    const memory = new HostMemory();
    const buffer = memory.buffer("shared", 4);
    const place = { buffer, shape: [1], rowStride: 1, offset: 0, per: "row" } as const;
    const tap = (name: string) => ({ name, buffer, place });
    const step = (label: string, reads: string[], writes: string[]): CompiledStep => {
      return { label, launches: [], reads: reads.map(tap), writes: writes.map(tap) };
    };
    expectUndisturbed([step("first", [], ["a"]), step("reader", ["a"], [])]);
    const overwritten = [step("first", [], ["a"]), step("second", [], ["b"]), step("reader", ["a"], [])];
    expect(() => expectUndisturbed(overwritten)).toThrow("reader reads a where b lies");
    expect(() => expectUndisturbed([step("first", [], ["a"]), step("in place", ["a"], ["b"])])).toThrow(
      "in place writes b where it reads",
    );
  });
});
