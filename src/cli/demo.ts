import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { demoText } from "../report/demo.js";
import { InputError } from "../tensor/errors.js";
import { flashinferCase } from "./demo-flashinfer.js";
import { liveAct } from "./demo-live.js";
import { detokenizer } from "./detokenizer.js";
import { runDiagnosis } from "./diagnose.js";
import { terminalStyle } from "./style.js";

/** `faultline demo`: the case that made this tool necessary, from symptom to proof. */
export function demoCommand(): Command {
  const demo = new Command("demo")
    .summary("the case of the exclamation mark, from symptom to proof")
    .description(
      'Diagnoses the recording in cases/exclamation-mark: a fused attention layer that is right alone, and a model that says nothing but "!".',
    )
    .option("-v, --verbose", "all there is, as of faultline diagnose")
    .option("--live", "then the same in the running engine: its faults put in, diagnosed, taken out one by one")
    .action(async ({ verbose = false, live = false }: { verbose?: boolean; live?: boolean }) => {
      const run = {
        target: shipped(join("cases", "exclamation-mark")),
        model: shipped(join("models", "ishmael-7m")),
      };
      const verdict = await runDiagnosis(run);
      const token = verdict.proof.fromTokens?.recordedToken ?? 0;
      const said = detokenizer(run.model)?.([token]) ?? String(token);
      process.stdout.write(demoText(verdict, said, { ...terminalStyle(verbose), run }));
      if (live) await liveAct(run.model);
    });
  demo
    .command("flashinfer")
    .summary("the same on this machine's GPU, with your own FlashInfer")
    .description(
      'The case live, on an NVIDIA GPU with your own FlashInfer as the attention: the standard path speaks, the fused kernel is right by itself, in the model with the team\'s three faults it says nothing but "!" whatever K is scaled by; the recording is diagnosed, FlashInfer cleared, and the faults are taken out of the running engine. `faultline flashinfer build` makes the modules that it needs.',
    )
    .option("-m, --model <dir>", "model folder (default: the small model that ships with faultline)")
    .option("--capture <dir>", "leave the recordings in a new folder: kernel, faulty and healed")
    .addHelpText(
      "after",
      "\nExit status: 0 when everything went as in the case, 1 when something did not (said at the end), 2 without GPU or FlashInfer.",
    )
    .action(({ model = shipped(join("models", "ishmael-7m")), capture }: { model?: string; capture?: string }) =>
      flashinferCase(model, capture),
    );
  return demo;
}

/** A file that ships with the package, beside dist/, as one types it here. */
function shipped(path: string): string {
  const found = fileURLToPath(new URL(`../../${path}`, import.meta.url));
  if (!existsSync(found)) throw new InputError(`${found}: expected the demo's files beside the program, found none`);
  const near = relative(process.cwd(), found);
  return near.startsWith("..") ? found : near;
}
