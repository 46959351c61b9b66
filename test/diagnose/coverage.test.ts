import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { promptSteps } from "../../src/lab/batch.js";
import { integer } from "../../src/lab/fault.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import type { Graph, GraphNode } from "../../src/spec/graph.js";
import type { Op } from "../../src/spec/op.js";
import { decode, encode, floatFormat, unitInLastPlace } from "../../src/tensor/dtype.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";
import { temporaryFolder } from "../lab/folder.js";
import { briefVerdict } from "./brief-verdict.js";

const folder = temporaryFolder();
const store = "bfloat16";

/** The same node, giving one row what another should have. */
function takingRow(node: GraphNode, row: number, from: number): GraphNode {
  const evaluate: Op["evaluate"] = (context, rows, columns) =>
    node.op.evaluate(
      context,
      rows.map((wanted) => (wanted === row ? from : wanted)),
      columns,
    );
  return { ...node, op: { ...node.op, evaluate } };
}

function record(
  name: string,
  vocabulary: number,
  prompts: number,
  tokens: number,
  change?: (graph: Graph) => GraphNode,
) {
  const config = { num_hidden_layers: 1, vocab_size: vocabulary };
  const model = writeTinyModel(join(folder, name), { family: "qwen3", seed: 11, config });
  const random = randomGenerator(12);
  const steps = promptSteps(
    Array.from({ length: prompts }, () => Array.from({ length: tokens }, () => integer(random, 0, vocabulary - 1))),
  );
  const path = join(folder, `${name}.safetensors`);
  runLab({ model, steps, store, path, injections: change ? [{ nodes: [change(model.graph)] }] : [] });
  return { path, model };
}

/** Writes the recording anew with the rows [rows, columns] of one tensor changed. */
function change(path: string, name: string, edit: (values: Float64Array, columns: number) => void): string {
  const file = new SafetensorsFile(path);
  const tensors = [...file.entries.values()].map((entry) => {
    const bytes = file.readBytes(entry);
    if (entry.name !== name) return { ...entry, bytes };
    const values = decode(bytes, entry.dtype);
    edit(values, entry.shape.at(-1)!);
    return { ...entry, bytes: encode(values, entry.dtype) };
  });
  file.close();
  const changed = path.replace(".safetensors", "-changed.safetensors");
  rmSync(changed, { force: true });
  writeSafetensors(changed, tensors);
  return changed;
}

describe("what a sample does not hold", () => {
  it("is found: one element of 151,936 columns, off by 10 ulps at its row's size", { timeout: 120_000 }, async () => {
    const { path, model } = record("wide", 151_936, 1, 6);
    const clean = await diagnose({ target: path, model: model.directory, quick: true });
    expect(clean.verdict).toBe("clean");
    expect(clean.coverage.summed + clean.coverage.compared).toBeGreaterThanOrEqual(clean.coverage.of);
    for (const column of [77_777, 3, 151_935]) {
      const changed = change(path, "lm_head", (values, columns) => {
        const row = values.subarray(4 * columns, 5 * columns);
        const size = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / columns);
        row[column]! += 10 * unitInLastPlace(size, floatFormat(store)!);
      });
      const verdict = await briefVerdict(changed, model.directory);
      expect(verdict.verdict).toBe("fault");
      expect(verdict.findings.map(({ unit }) => unit)).toEqual(["lm_head"]);
      expect(verdict.findings[0]!.extent.columns).toContain(String(column));
    }
  });

  it.each([
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.o_proj.input",
    "model.layers.0.mlp.down_proj",
    "model.norm",
  ])("is found: one wrong row of 4,096 in %s", { timeout: 120_000 }, async (unit) => {
    const { path, model } = record(`long-${unit}`, 300, 256, 16, (graph) => takingRow(graph.node(unit), 2345, 1234));
    const verdict = await briefVerdict(path, model.directory);
    expect(verdict.verdict).toBe("fault");
    expect(verdict.findings.map((finding) => finding.unit)).toEqual([unit]);
    expect(verdict.findings[0]!.extent.rows).toContain("2345");
  });
});
