import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { expect, test } from "vitest";
import { openCuda } from "../../../src/engine/cuda/device.js";
import { fusedPath, standardPath } from "../../../src/engine/device/paths.js";
import { randomWeights } from "../../../src/engine/device/weights.js";
import { Generation } from "../../../src/engine/serve/generation.js";
import { parseModelConfig } from "../../../src/spec/models/config.js";
import { between, randomNumbers } from "../gpu.js";
import { tinyConfigJson } from "../tiny-model.js";
import { compiler, FakeDriver } from "./emulated.js";

const config = parseModelConfig(
  { ...tinyConfigJson, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, head_dim: 8, vocab_size: 32 },
  "tiny",
);
const steps = 120;

if (compiler) {
  test.each([
    ["standard", standardPath],
    ["fused", fusedPath],
  ] as const)("%s: what a generation takes of the driver it gives back, graphs included", async (_, make) => {
    const driver = new FakeDriver();
    const cuda = await openCuda(driver.path);
    const weights = await randomWeights(cuda, config, "bfloat16");
    const options = { pageCount: 12, pageSize: 4, maxRows: 4, maxSequences: 2, cacheDtype: "float32" } as const;
    const path = make(cuda, config, weights, options);
    const random = randomNumbers(17);
    let tokens = 0;
    const generation = new Generation(path, { chunk: 2, stepsAhead: 16, onToken: () => void tokens++ });
    const runUntil = async (count: number) => {
      while (tokens < count) {
        while (generation.scheduler.running.length + generation.scheduler.waiting.length < 2) {
          const tokenIds = Array.from({ length: between(random, 1, 8) }, () => between(random, 0, 31));
          generation.add({ tokenIds, maxTokens: between(random, 1, 24) });
        }
        await generation.step();
      }
    };
    await runUntil(steps / 4);
    const early = driver.live;
    driver.calls();
    await runUntil(steps);
    const calls = driver.calls();
    const count = (name: string) => calls.filter((call) => call.startsWith(`${name} `) || call === name).length;
    const graphs = count("cuGraphInstantiateWithFlags") - count("cuGraphExecDestroy");
    expect(driver.live - early).toBe(graphs);
    expect(count("cuGraphLaunch")).toBeGreaterThan(steps / 4);
    path.dispose();
    weights.destroy();
    cuda.destroy();
    expect(driver.live).toBe(0);
  });

  test("--adapter cuda speaks on the command line, with the tokens of the reference path", () => {
    const driver = new FakeDriver();
    const env = { ...process.env, LD_LIBRARY_PATH: dirname(driver.path) };
    const say = (...words: string[]) =>
      execFileSync(
        "node",
        [
          "dist/cli/main.js",
          "generate",
          "--model",
          "models/ishmael-7m",
          "--prompt",
          "Call me",
          "--max-tokens",
          "3",
          ...words,
        ],
        { env, encoding: "utf8", stdio: "pipe" },
      );
    const meant = say("--path", "reference");
    for (const path of ["standard", "fused"]) expect(say("--path", path, "--adapter", "cuda")).toBe(meant);
  });
} else test("without a C++ compiler there is no driver to open paths on", () => expect(compiler).toBeUndefined());
