import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openInvestigation } from "../../src/diagnose/check/open-investigation.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";
import { temporaryFolder } from "../lab/folder.js";

const folder = temporaryFolder();
const golden = "test/golden/moe";

/** A recording without some of its values, and with others changed. */
function without(
  source: string,
  name: string,
  leftOut: RegExp,
  change: (name: string, values: Float64Array) => void = () => {},
): string {
  const file = new SafetensorsFile(source);
  const tensors = [...file.entries.values()]
    .filter((entry) => !leftOut.test(entry.name))
    .map((entry) => {
      const values = Float64Array.from(decode(file.readBytes(entry), entry.dtype));
      change(entry.name, values);
      return { name: entry.name, dtype: entry.dtype, shape: [...entry.shape], bytes: encode(values, entry.dtype) };
    });
  file.close();
  const path = join(folder, name);
  writeSafetensors(path, tensors);
  return path;
}

const run = (family: string, name: string) => join(golden, family, `${name}.safetensors`);

describe("choices of experts that were not recorded", () => {
  it.each([
    ["qwen3_moe", "bf16-sdpa-grouped_mm"],
    ["mixtral", "bf16-eager-eager"],
    ["gpt_oss", "bf16-eager-batched_mm"],
    ["glm4_moe", "fp32-eager-eager"],
  ])("of %s follow from the logits, or from what the experts gave", async (family, name) => {
    const model = join(golden, family);
    for (const leftOut of [/\.indices$/, /\.(indices|scores)$/, /mlp\.(gate|router)/]) {
      const target = without(run(family, name), `${family} ${leftOut.source.length}.safetensors`, leftOut);
      const verdict = await diagnose({ target, model });
      expect(verdict, leftOut.source).toMatchObject({ verdict: "clean", causes: [], findings: [] });
      const kept = !leftOut.source.includes("scores") && !leftOut.source.includes("router");
      expect(verdict.unchecked.some(({ value }) => value.endsWith(".scores"))).toBe(kept);
    }
  });

  it("are settled where logits tie: the run's own choice is found among those that rounding allows", async () => {
    const model = join(golden, "qwen3_moe");
    const source = run("qwen3_moe", "bf16-sdpa-grouped_mm");
    const file = new SafetensorsFile(source);
    const name = "model.layers.2.mlp.gate";
    const indices = decode(file.readBytes(file.entry(`${name}.indices`)), "int64");
    file.close();
    // The weakest of the chosen experts and the best of the others are recorded alike: either may have been chosen. Weights
    // that are divided by their sum do not depend on the others.
    const tied = new Map<number, number>();
    const target = without(source, "tied.safetensors", /\.(indices|scores)$/, (value, logits) => {
      if (value !== name) return;
      for (let row = 0; row < 22; row++) {
        const chosen = new Set(indices.slice(3 * row, 3 * row + 3));
        const own = logits.subarray(8 * row, 8 * row + 8);
        const order = [...own.keys()].sort((a, b) => own[b]! - own[a]!);
        const weakest = order.filter((e) => chosen.has(e)).at(-1)!;
        const best = order.find((e) => !chosen.has(e))!;
        tied.set(row, weakest);
        own[best] = own[weakest]!;
      }
    });
    const { investigation, close } = openInvestigation({ target, model });
    const node = investigation.graph.node(`${name}.indices`);
    const rows = Int32Array.from({ length: 22 }, (_, row) => row);
    const { value } = investigation.evaluator.evaluate(node.name, rows);
    for (const [row, weakest] of tied) expect([...value.slice(3 * row, 3 * row + 3)]).toContain(weakest);
    close();
    expect(tied.size).toBe(22);
    expect(await diagnose({ target, model })).toMatchObject({ findings: [{ unit: name }] });
  });
});
