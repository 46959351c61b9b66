import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import type { Path } from "../../src/engine/run/path.js";
import { Generation } from "../../src/engine/serve/generation.js";
import { TextStream } from "../../src/engine/text/tokenizer.js";
import { openDevice } from "../../src/engine/webgpu/device.js";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { type FetchedModel, fetchModel } from "./model.js";

const makers = { standard: standardPath, fused: fusedPath };
type PathName = keyof typeof makers;

const pageSize = 16;

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

function show(state: "loading" | "ready" | "running" | "done" | "failed", message: string): void {
  document.body.dataset.state = state;
  element("status").textContent = message;
  element<HTMLButtonElement>("generate").disabled = state === "loading" || state === "running";
}

interface Session {
  readonly gpu: Gpu;
  readonly gpuName: string;
  readonly model: FetchedModel;
  readonly weights: Weights;
}

/** Continues the prompt on one path, streaming into its box. @returns the new tokens. */
async function generateOn(name: PathName, { gpu, model, weights }: Session, prompt: string, maxTokens: number) {
  const { config, tokenizer } = model;
  const tokenIds = tokenizer.encode(prompt);
  const pageCount = Math.ceil((tokenIds.length + maxTokens) / pageSize) + 1;
  const options = { pageCount, pageSize, cacheDtype: "float32", maxRows: 64, maxSequences: 1 } as const;
  const path: Path = makers[name](gpu, config, weights, options);
  const box = element(name);
  box.textContent = prompt;
  const stream = new TextStream(tokenizer, tokenIds);
  // From the first token on: before it, kernels are compiled.
  let started = 0;
  const generation = new Generation(path, {
    stepsAhead: 8,
    onToken(_, token) {
      started ||= performance.now();
      box.append(stream.push(token));
    },
  });
  const sequence = generation.add({ tokenIds, maxTokens, endTokens: config.endTokens });
  await generation.run();
  box.append(stream.end());
  const seconds = (performance.now() - started) / 1000;
  const speed = (sequence.generatedCount - 1) / seconds;
  element(`${name}-speed`).textContent = speed > 0 ? `${speed.toFixed(1)} tokens/s` : "";
  path.dispose();
  if (sequence.finish === "nonfinite") throw new Error(`the ${name} path's logits are not finite`);
  return sequence.generated;
}

async function run(session: Session): Promise<void> {
  const prompt = element<HTMLInputElement>("prompt").value;
  const count = element<HTMLInputElement>("tokens").valueAsNumber;
  if (session.model.tokenizer.encode(prompt).length === 0 || !(count >= 1)) return show("ready", "Give it a prompt.");
  element("verdict").textContent = "";
  element("fused").textContent = "";
  show("running", `Generating on ${session.gpuName}: standard…`);
  const standard = await generateOn("standard", session, prompt, count);
  show("running", `Generating on ${session.gpuName}: fused…`);
  const fused = await generateOn("fused", session, prompt, count);
  element("verdict").textContent = compare(standard, fused);
  show("done", `Done, on ${session.gpuName}.`);
}

function compare(standard: readonly number[], fused: readonly number[]): string {
  const differs = standard.findIndex((token, i) => token !== fused[i]);
  if (differs < 0 && standard.length === fused.length) return `Both paths gave the same ${standard.length} tokens.`;
  return `The paths agree on ${Math.max(differs, 0)} tokens, then differ.`;
}

async function start(): Promise<void> {
  if (!navigator.gpu) return show("failed", "This browser has no WebGPU.");
  const [gpu, model] = await Promise.all([openDevice(), fetchModel("./ishmael-7m")]);
  const weights = await loadWeights(gpu, model.config, model.checkpoint);
  const { device, vendor, architecture } = gpu.info;
  const gpuName = device || [vendor, architecture].filter(Boolean).join(" ") || "this GPU";
  const session = { gpu, gpuName, model, weights };
  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(session).catch(fail);
  });
  show("ready", `Ready on ${gpuName}.`);
}

function fail(error: unknown): void {
  show("failed", error instanceof Error ? error.message : String(error));
}

start().catch(fail);
