import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withJudged } from "../diagnose/street.js";
import { Recording } from "../engine/serve/recording.js";
import { causesAsPatch } from "../lab/live/causes.js";
import { exclamationMark } from "../lab/live/faults.js";
import { runLive } from "../lab/live/live-run.js";
import { RecentRuns, sweep } from "../lab/live/sweep.js";
import { quoted } from "../report/visible-text.js";
import { RoundedArithmetic } from "../spec/arithmetic.js";
import { decoderGraph } from "../spec/models/decoder.js";
import { InputError } from "../tensor/errors.js";
import { causeLines, effectLine, takenOut } from "./live-lines.js";
import { type LiveModel, type LiveModelOptions, withLiveModel } from "./live-model.js";
import { outputColors } from "./style.js";
import { withProgress } from "./verdict.js";

const prompt = "Call me Ishmael.";
const maxTokens = 4;

/**
 * The demo's second act: the three faults in the running engine, the run recorded and diagnosed, the causes found put
 * into a healthy engine, and the faults taken out one by one.
 */
export async function liveAct(model: string): Promise<void> {
  const options = { model, prompt, maxTokens, path: "fused" } as const;
  const folder = mkdtempSync(join(tmpdir(), "faultline-demo-"));
  try {
    await withFusedPath(options, (live) => act(live, model, join(folder, "run")));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The software GPU, the same everywhere; where its packages are missing any GPU, and without one the reference path with
 * sums in float32, which overflow as kernels' do.
 */
async function withFusedPath(options: LiveModelOptions, use: (live: LiveModel) => Promise<void>): Promise<void> {
  const ways: LiveModelOptions[] = [
    { ...options, adapter: "software" },
    options,
    { ...options, path: "reference", arithmetic: new RoundedArithmetic({ block: 32, reversed: false }) },
  ];
  for (const [i, way] of ways.entries()) {
    let opened = false;
    try {
      return await withLiveModel(way, (live) => {
        opened = true;
        return use(live);
      });
    } catch (error) {
      if (opened || !(error instanceof InputError) || i + 1 === ways.length) throw error;
      if (i + 2 === ways.length)
        say(`\n${error.message.replace(/^--path fused: /, "")}; the reference path runs instead.\n`);
    }
  }
}

async function act(live: LiveModel, model: string, recording: string): Promise<void> {
  const c = outputColors();
  const text = (tokenIds: readonly number[]) => quoted(live.tokenizer.decode(tokenIds));
  const { device } = live.engine;
  await withProgress(async (progress) => {
    say(`\n${c.bold("The same, live")}\n`);
    say(`  put into the running path, on ${device}:\n`);
    for (const { name, title } of exclamationMark) say(`    ${name.padEnd(20)}${title}\n`);
    progress("generating", 0);
    const own = decoderGraph(live.config);
    const recorder = new Recording(recording, {
      model: live.json,
      runtime: { name: "faultline", device, dtype: "float32" },
      wants: (name) => own.find(name) !== undefined,
    });
    const runs = new RecentRuns(live);
    const faulty = await runs.under(exclamationMark, recorder);
    say(
      `  ${quoted(prompt)} goes on with ${c.red(text(faulty.tokenIds))}\n\n  its first step, recorded and diagnosed:\n`,
    );
    await withJudged({ target: recording, model, progress }, async (judged) => {
      for (const line of causeLines(judged)) say(`    ${line}\n`);
      progress("proving", 0);
      const again = await runLive(live, [causesAsPatch(judged.causes)]);
      say(
        `  these causes put into the healthy path: ${c.red(text(again.tokenIds))}\n\n  the faults taken out, one after the other:\n`,
      );
    });
    for await (const effect of sweep(live, takenOut(exclamationMark), progress, runs))
      say(`    ${effectLine(effect)}\n      ${text(effect.tokenIds.with)}\n`);
    say("\nChange your own running engine: faultline sweep --help\n");
  });
}

function say(text: string): void {
  process.stdout.write(text);
}
