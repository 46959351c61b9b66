import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { demoText } from "../report/demo.js";
import { InputError } from "../tensor/errors.js";
import { liveAct } from "./demo-live.js";
import { detokenizer } from "./detokenizer.js";
import { runDiagnosis } from "./diagnose.js";
import { terminalStyle } from "./style.js";

/** `faultline demo`: the case that made this tool necessary, from symptom to proof. */
export function demoCommand(): Command {
  return new Command("demo")
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
}

/** A file that ships with the package, beside dist/, as one types it here. */
function shipped(path: string): string {
  const found = fileURLToPath(new URL(`../../${path}`, import.meta.url));
  if (!existsSync(found)) throw new InputError(`${found}: expected the demo's files beside the program, found none`);
  const near = relative(process.cwd(), found);
  return near.startsWith("..") ? found : near;
}
