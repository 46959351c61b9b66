import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JudgedRun } from "../diagnose/reference/judged-run.js";
import { opened } from "../diagnose/street.js";
import { Recording } from "../engine/serve/recording.js";
import { causesAsPatch } from "../lab/live/causes.js";
import { exclamationMark } from "../lab/live/faults.js";
import { recordLive, runLive } from "../lab/live/live-run.js";
import { parseSettings } from "../lab/live/parse-settings.js";
import { RecentRuns, sweep } from "../lab/live/sweep.js";
import { recipeWords } from "../report/recording-words.js";
import { streamWords } from "../report/sweep.js";
import { wrap } from "../report/text.js";
import { quoted, visible } from "../report/visible-text.js";
import type { Graph } from "../spec/graph.js";
import { decoderGraph } from "../spec/models/decoder.js";
import { detokenizer } from "./detokenizer.js";
import { causeLines, effectLine, takenOut } from "./live-lines.js";
import { type LiveModel, withLiveModel } from "./live-model.js";
import { outputColors } from "./style.js";
import { withProgress } from "./verdict.js";

const prompt = "Call me Ishmael.";
const maxTokens = 4;
/** The prompt's step, which FlashInfer's prefill computes, and one of its decode. */
const recordedSteps = 2;
const scales = "layers.*.k_scale=1.0,0.1,0.01,0.001,0.0005";
/** As the diagnosis calls the team's three. */
const causes = ["additive-constant", "embedding-scaled", "residual-dropped"];

type Progress = (stage: string, done: number) => void;
const device = { adapter: "cuda", attention: "flashinfer" } as const;

/**
 * The case of the exclamation mark on this machine's GPU, with the user's FlashInfer as the attention of both paths.
 * The exit status is 1 when something is not as the case has it.
 * @param keep a new folder for the recordings; none is left where it is undefined.
 */
export async function flashinferCase(model: string, keep?: string): Promise<void> {
  const folder = keep ?? mkdtempSync(join(tmpdir(), "faultline-demo-"));
  try {
    const run = { ...device, model, prompt, maxTokens };
    const standard = await withLiveModel({ ...run, path: "standard" }, standardPath);
    await withLiveModel({ ...run, path: "fused" }, (live) =>
      withProgress((progress) => new FusedCase(live, model, folder, progress).tell(standard)),
    );
  } finally {
    if (keep === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

async function standardPath(live: LiveModel): Promise<readonly number[]> {
  const { tokenIds } = await runLive(live, []);
  title(`The standard path, on ${live.engine.device} with your FlashInfer`);
  say(`  ${quoted(prompt)} goes on with ${outputColors().green(quoted(live.tokenizer.decode(tokenIds)))}\n`);
  return tokenIds;
}

/** The fused path's part of the case, chapter by chapter. */
class FusedCase {
  readonly #graph: Graph;
  readonly #runs: RecentRuns;
  /** What is not as the case has it. */
  readonly #departures: string[] = [];

  constructor(
    readonly live: LiveModel,
    readonly model: string,
    readonly folder: string,
    readonly progress: Progress,
  ) {
    this.#graph = decoderGraph(live.config);
    this.#runs = new RecentRuns(live);
  }

  /** @param standard what the standard path generates. */
  async tell(standard: readonly number[]): Promise<void> {
    this.#expect(!isMute(standard), "the standard path says nothing but token 0");
    await this.#kernelAlone();
    await this.#inTheModel();
    await this.#keyScales();
    await this.#diagnosis();
    await this.#patchedLive(standard);
    say("\n");
    for (const departure of this.#departures) say(`not as in the case: ${departure}\n`);
    if (this.#departures.length > 0) process.exitCode = 1;
    else say("as in the case, from the first line to the last\n");
  }

  async #kernelAlone(): Promise<void> {
    title("The fused kernel by itself");
    const first = this.#graph.at({ what: "embedding" })!.name;
    const ofKernel = (name: string) => {
      const { layer, site } = this.#graph.node(name);
      return name === first || (layer === 0 && site.block === "attention");
    };
    await this.#record("kernel", [], ofKernel);
    await this.#judged("kernel", true, ({ verdict }) => {
      say(
        "  RMSNorm, q, k, v, QK-norm and RoPE of layer 0 in one launch, by the spec from what it was given, and FlashInfer:\n",
      );
      for (const recipe of verdict.recipes) say(`    ${unitWords(recipe)}\n`);
      say(`  ${verdict.verdict.toUpperCase()}\n`);
      this.#expect(
        verdict.findings.length === 0 && verdict.recipes.length > 0,
        "the fused kernel departs from the spec",
      );
    });
  }

  async #inTheModel(): Promise<void> {
    title("In the model");
    for (const { name, title } of exclamationMark) say(`    ${name.padEnd(20)}${title}\n`);
    const tokenIds = await this.#record("faulty", exclamationMark, () => true);
    say(`  ${quoted(prompt)} goes on with ${outputColors().red(this.#text(tokenIds))}\n`);
    this.#expect(isMute(tokenIds), "the faulty path says something else than token 0");
  }

  async #keyScales(): Promise<void> {
    title("The scale of K");
    const settings = parseSettings(scales, this.live.config, exclamationMark);
    let isFirst = true;
    for await (const { setting, elements, sameText, tokenIds, layers } of sweep(
      this.live,
      settings,
      this.progress,
      this.#runs,
    )) {
      if (isFirst) say(`${wrap(streamWords(layers), 110, "  ")}\n`);
      isFirst = false;
      say(
        `    ${setting.padEnd(26)}${this.#text(tokenIds.with)}, ${elements.changed} of ${elements.of} elements change\n`,
      );
      this.#expect(sameText, `${setting} changes the text`);
    }
  }

  async #diagnosis(): Promise<void> {
    title("The recording of it, diagnosed");
    await this.#judged("faulty", false, async (judged) => {
      const { verdict } = judged;
      say(`${wrap(verdict.summary, 110, "  ")}\n`);
      for (const line of causeLines(judged)) say(`    ${line}\n`);
      const attention = this.#graph.at({ what: "mixed", layer: 0 })!.name.replace(".0.", ".*.");
      const recipe = verdict.recipes.find(({ unit }) => unit === attention);
      const accused = verdict.findings.some(({ unit }) => unit.replace(/\.\d+\./, ".*.") === attention);
      say(`  FlashInfer: ${recipe ? unitWords(recipe) : "not judged"}\n  what was asked next:\n`);
      for (const [name, { pass, evidence }] of Object.entries(verdict.audits))
        say(`    ${name.padEnd(10)}${pass ? "pass" : "FAIL"}  ${visible(evidence)}\n`);
      for (const line of verdict.chain) say(`${wrap(`- ${visible(line)}`, 110, "  ")}\n`);
      this.progress("proving", 0);
      const again = await runLive(this.live, [causesAsPatch(judged.causes)]);
      say(`  these causes put into the healthy path: ${outputColors().red(this.#text(again.tokenIds))}\n`);
      const named = verdict.causes.map(({ cause }) => cause).sort();
      this.#expect(String(named) === String(causes), `the causes named are ${named.join(", ") || "none"}`);
      this.#expect(!accused && recipe != null && recipe.recipe !== null, "FlashInfer is not cleared by its recipe");
      this.#expect(isMute(again.tokenIds), "the causes found do not make the healthy path faulty");
    });
  }

  async #patchedLive(standard: readonly number[]): Promise<void> {
    title("Patched live: the faults taken out, one after the other");
    let said: readonly number[] = [];
    for await (const effect of sweep(this.live, takenOut(exclamationMark), this.progress, this.#runs)) {
      said = effect.tokenIds.with;
      say(`    ${effectLine(effect)}\n      ${this.#text(said)}\n`);
    }
    this.#expect(
      String(said) === String(standard),
      "the fused path without faults does not say what the standard path says",
    );
    await this.#record("healed", [], () => true);
    await this.#judged("healed", true, ({ verdict }) => {
      say(`  recorded: ${verdict.verdict.toUpperCase()}, ${visible(verdict.summary)}\n`);
      this.#expect(verdict.verdict === "clean", "the recording without faults is not clean");
    });
  }

  /** Records the first steps with some faults, into a folder of that name. @returns what is generated. */
  #record(name: string, faults: typeof exclamationMark, wants: (name: string) => boolean): Promise<readonly number[]> {
    this.progress("generating", 0);
    const recorder = new Recording(join(this.folder, name), {
      model: this.live.json,
      runtime: { name: "faultline", device: this.live.engine.device, dtype: "float32" },
      // Patches make values beside the model's own.
      wants: (value) => this.#graph.find(value) !== undefined && wants(value),
    });
    return recordLive(this.live, faults, recorder, recordedSteps);
  }

  /** @param brief without the run from the tokens. */
  #judged(name: string, brief: boolean, use: (run: JudgedRun) => void | Promise<void>): Promise<void> {
    const { model, progress } = this;
    return opened({ target: join(this.folder, name), model, progress, detokenize: detokenizer(model) }, brief, use);
  }

  #text(tokenIds: readonly number[]): string {
    return quoted(this.live.tokenizer.decode(tokenIds));
  }

  #expect(holds: boolean, departure: string): void {
    if (!holds) this.#departures.push(departure);
  }
}

/** "!" in the vocabulary of Qwen, and so for ever. */
function isMute(tokenIds: readonly number[]): boolean {
  return tokenIds.every((token) => token === 0);
}

function unitWords(recipe: JudgedRun["verdict"]["recipes"][number]): string {
  const bits = recipe.recipe === null ? "" : `, ${(100 * recipe.equal).toFixed(2)} % bit for bit`;
  return `${recipe.unit.replace(/^model\.layers\.\*\./, "").padEnd(26)}${recipeWords(recipe)}${bits}`;
}

function title(text: string): void {
  say(`\n${outputColors().bold(text)}\n`);
}

function say(text: string): void {
  process.stdout.write(text);
}
