import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { renderVerdict } from "../report/terminal.js";
import { InputError } from "../tensor/errors.js";
import { detokenizer } from "./detokenizer.js";
import { runDiagnosis } from "./diagnose.js";
import { outputColors, terminalStyle } from "./style.js";

/** `faultline demo`: the case that made this tool necessary, from symptom to proof. */
export function demoCommand(): Command {
  return new Command("demo")
    .summary("the case of the exclamation mark, from symptom to proof")
    .description(
      'Diagnoses the recording in cases/exclamation-mark: a fused attention layer that is right alone, and a model that says nothing but "!".',
    )
    .action(async () => {
      const target = shipped(join("cases", "exclamation-mark", "capture.safetensors"));
      const model = shipped(join("models", "ishmael-7m"));
      const style = terminalStyle(false);
      const c = outputColors();
      const verdict = await runDiagnosis({ target, model });
      const text = detokenizer(model);
      const said = verdict.proof.fromTokens?.recordedToken ?? 0;
      process.stdout.write(
        `${c.bold("The symptom")}\n  "Call me Ishmael. Some years ago—never mind how long" goes on with ${c.red(JSON.stringify(text?.([said]) ?? String(said)))}, and so for ever.\n  The fused kernel matches PyTorch when it is tested alone.\n\n`,
      );
      process.stdout.write(renderVerdict(verdict, style));
      process.stdout.write(
        `\n${c.bold("The model, healthy")}\n  "Call me Ishmael. Some years ago—never mind how long" goes on with ${c.green(JSON.stringify(verdict.proof.repair?.continuation ?? ""))}\n\nThe same on your own run: faultline diagnose YOUR.safetensors --model DIR\n`,
      );
    });
}

/** A file that ships with the package, beside dist/. */
function shipped(path: string): string {
  const found = fileURLToPath(new URL(`../../${path}`, import.meta.url));
  if (!existsSync(found)) throw new InputError(`${found}: expected the demo's files beside the program, found none`);
  return found;
}
