import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { Capture } from "../../src/capture/capture.js";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { randomGenerator } from "../../src/diagnose/bits/sample.js";
import { namedCapture } from "../../src/importers/named-capture.js";
import { openDump } from "../../src/importers/recording.js";
import { type Mapping, mapNames } from "../../src/names/map-names.js";
import { ModelParameters } from "../../src/spec/formats/model-parameters.js";
import type { Graph } from "../../src/spec/graph.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { SafetensorsFile, type TensorBytes, writeSafetensors } from "../../src/tensor/safetensors.js";

const golden = new URL("../golden", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "faultline-names-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Every family, and one of its correct recordings. */
const families = ["families", "moe"].flatMap((kind) =>
  readdirSync(join(golden, kind)).map((family) => {
    const model = join(golden, kind, family);
    return [family, model, readdirSync(model).find((file) => file.startsWith("bf16"))!] as const;
  }),
);

interface Recorded extends TensorBytes {
  /** Names of the values that it holds side by side. */
  readonly values: readonly string[];
}

function tensorsOf(path: string): Recorded[] {
  const file = new SafetensorsFile(path);
  const tensors = [...file.entries.values()].map((entry) => ({
    name: entry.name,
    dtype: entry.dtype,
    shape: entry.shape,
    bytes: file.readBytes(entry),
    values: [entry.name],
  }));
  file.close();
  return tensors;
}

/** Several tensors side by side, along their last axis. */
function fused(tensors: readonly Recorded[], values: readonly string[]): readonly Recorded[] {
  const parts = values.map((name) => tensors.find((tensor) => tensor.name === name));
  if (parts.some((part) => part === undefined)) return tensors;
  const [first] = parts as [Recorded];
  const rows = first.shape.slice(0, -1).reduce((product, n) => product * n, 1);
  const pieces = Array.from({ length: rows }, (_, row) =>
    parts.map((part) => {
      const width = part!.bytes.byteLength / rows;
      return part!.bytes.subarray(row * width, (row + 1) * width);
    }),
  );
  const columns = parts.reduce((sum, part) => sum + part!.shape.at(-1)!, 0);
  const whole = {
    ...first,
    shape: [...first.shape.slice(0, -1), columns],
    bytes: Buffer.concat(pieces.flat()),
    values,
  };
  return [...tensors.filter(({ name }) => !values.includes(name)), whole];
}

/** A recording as a stranger would have it: other names, q, k, v and gate, up and pairs fused, a fifth missing, in any order. */
function disguise(path: string, seed: number): readonly Recorded[] {
  let tensors: readonly Recorded[] = tensorsOf(path);
  for (let layer = 0; layer < 4; layer++) {
    const at = (...names: string[]) => names.map((name) => `model.layers.${layer}${name}`);
    tensors = fused(tensors, at(".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"));
    tensors = fused(tensors, at(".mlp.gate_proj", ".mlp.up_proj"));
    tensors = fused(tensors, at(".mlp", ""));
  }
  const random = randomGenerator(seed);
  const missing = new Set(tensors.filter(() => random() < 0.2).map(({ name }) => name));
  return (
    tensors
      .filter(({ name }) => name === "input_ids" || !missing.has(name))
      // Scores lie in the order of the experts chosen: one recorder hook gives both.
      .filter(({ name }) => !name.endsWith(".scores") || !missing.has(name.replace(/scores$/, "indices")))
      .map((tensor) => ({ tensor, place: random() }))
      .sort((a, b) => a.place - b.place)
      .map(({ tensor }, i) => ({ ...tensor, name: `tensor_${i}` }))
  );
}

function mapped(tensors: readonly TensorBytes[], model: string, name: string): { mapping: Mapping; capture: Capture } {
  const path = join(folder, `${name}.safetensors`);
  writeSafetensors(path, tensors);
  const dump = openDump(path);
  const parameters = new ModelParameters(model);
  const mapping = mapNames(dump, readModelConfig(model).config, parameters);
  parameters.close();
  return { mapping, capture: namedCapture(dump, mapping.names) };
}

/** The first of values that are copies of each other. */
function rootOf(name: string, graph: Graph): string {
  const node = graph.node(name);
  return node.op.kind === "identity" ? rootOf(node.inputs[0]!, graph) : name;
}

/** Values of a capture that hold the same numbers as in another, or as a copy of them there, and those that hold others. */
function compared(capture: Capture, truth: Capture, graph: Graph): { same: string[]; other: string[] } {
  const [own, right] = [capture, truth].map((each) => new CaptureObservations(each, graph));
  const twin = (name: string) =>
    right!.has(name) ? name : right!.names().find((other) => rootOf(other, graph) === rootOf(name, graph));
  const names = own!.names().filter(twin);
  const isSame = (name: string) => {
    const rows = right!.outputRows(twin(name)!);
    return String(own!.block(name, rows)) === String(right!.block(twin(name)!, rows));
  };
  return { same: names.filter(isSame), other: names.filter((name) => !isSame(name)) };
}

it.each(families)(
  "%s: a renamed, fused, partly missing recording is mapped right, and nothing else is",
  (family, model, file) => {
    const disguised = disguise(join(model, file), family.length);
    const { mapping, capture } = mapped(disguised, model, family);
    const graph = decoderGraph(readModelConfig(model).config);
    const truth = openCapture(join(model, file));
    const { same, other } = compared(capture, truth, graph);
    truth.close();
    const held = disguised.flatMap(({ values }) => values).filter((name) => name !== "input_ids");
    expect(same.length).toBeGreaterThanOrEqual(0.95 * held.length);
    expect(other).toEqual([]);
    expect(mapping.names.values.filter(({ unsure }) => unsure)).toEqual([]);
    expect(mapping.names.unplaced).toEqual([]);
    expect(mapping.isSure).toBe(true);
  },
);

it.each([["gemma2", "no-mlp-residual"]])(
  "%s with %s under other names: what has nobody's bits is in doubt or left out",
  (family, fault) => {
    const model = join(golden, "families", family);
    const path = join(model, "faults", `${fault}.safetensors`);
    const renamed = tensorsOf(path).map((tensor, i) => ({ ...tensor, name: `tensor_${i}` }));
    const { mapping, capture } = mapped(renamed, model, `${family}-${fault}`);
    const truth = openCapture(path);
    const { same, other } = compared(capture, truth, decoderGraph(readModelConfig(model).config));
    truth.close();
    const unsure = new Set(mapping.names.values.filter(({ unsure }) => unsure).map(({ value }) => value));
    expect(other.filter((name) => !unsure.has(name))).toEqual([]);
    expect(same.length).toBeGreaterThan(3);
    expect(mapping.isSure).toBe(false);
  },
);

it("says which values no tensor holds, and which tensors hold no value", () => {
  const [, model, file] = families.find(([family]) => family === "mistral")!;
  const kept = tensorsOf(join(model, file)).filter(({ name }) => !/layers\.1\.mlp\.(gate|up)_proj/.test(name));
  const noise = { name: "noise", dtype: "float32" as const, shape: [7], bytes: new Uint8Array(28) };
  const { mapping } = mapped([...kept, noise], model, "partial");
  expect(mapping.missing).toContainEqual({ role: "model.layers.*.mlp.gate_proj", layers: [1] });
  expect(mapping.names.unplaced).toEqual([{ tensor: "noise", shape: "[7] float32", why: "its shape is no value's" }]);
});
