import { describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";

const { config } = readModelConfig(new URL("../../models/ishmael-7m", import.meta.url).pathname);

function alike(a: Float64Array, b: Float64Array): boolean {
  return a.length === b.length && a.every((x, i) => Object.is(x, b[i]));
}

describe.each([
  "hf_prefill_bf16_cpu.safetensors",
  "hf_h200_fp16_eager.safetensors",
  "hf_h200_bf16_sdpa_batch_3.safetensors",
  "hf_prefill_fp32_cpu.safetensors",
  "paged_bf16",
])("blocks of rows of %s", (file) => {
  const open = () =>
    new CaptureObservations(openCapture(new URL(`../golden/${file}`, import.meta.url).pathname), decoderGraph(config));
  const observations = open();
  const byRow = open();
  const { graph } = observations;

  it("are the rows as their producers wrote them", () => {
    for (const name of observations.names()) {
      const rows = observations.outputRows(name);
      const { columns } = graph.node(name);
      const block = observations.block(name, rows)!;
      expect(block.length, name).toBe(rows.length * columns);
      for (const [i, row] of rows.entries()) {
        const { value } = byRow.output(name, row)!;
        expect(alike(block.subarray(i * columns, (i + 1) * columns), value), name).toBe(true);
      }
    }
  });

  it("are the rows as their consumers read them, in the order asked for", () => {
    let blocks = 0;
    for (const name of observations.names()) {
      const { columns } = graph.node(name);
      for (const consumer of graph.consumers(name)) {
        const last = observations.rows.steps.length - 1;
        const all = Array.from({ length: observations.rows.count }, (_, i) => observations.rows.count - 1 - i);
        const rows = Int32Array.from(all.filter((row) => byRow.row(name, row, consumer, last)));
        const block = observations.block(name, rows, consumer, last)!;
        for (const [i, row] of rows.entries()) {
          const { value } = byRow.row(name, row, consumer, last)!;
          expect(alike(block.subarray(i * columns, (i + 1) * columns), value), name).toBe(true);
        }
        blocks++;
      }
    }
    expect(blocks).toBeGreaterThan(20);
  });

  it("are none where a row was not recorded, and fill an array of the caller's", () => {
    const name = "model.layers.0.self_attn.v_proj";
    const { columns } = graph.node(name);
    const [row] = observations.outputRows(name);
    const out = new Float64Array(2 * columns);
    expect(observations.blockInto(out, name, Int32Array.of(row!))).toBe(true);
    expect(out.subarray(0, columns)).toEqual(byRow.output(name, row!)!.value);
    expect(observations.block(name, Int32Array.of(row!, 100_000))).toBeUndefined();
    const unrecorded = [...graph.nodes.keys()].find((value) => !observations.has(value))!;
    expect(observations.block(unrecorded, Int32Array.of(row!))).toBeUndefined();
  });
});
