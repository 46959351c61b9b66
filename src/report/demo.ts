import pc from "picocolors";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import { chainText, type ReportStyle, renderVerdict } from "./terminal.js";
import { quoted } from "./visible-text.js";

const prompt = "Call me Ishmael. Some years ago—never mind how long";

/**
 * The case of the exclamation mark, told: the symptom, the verdict, the way from the causes to the symptom, the repair.
 * @param said what the faulty run says.
 */
export function demoText(diagnosis: Diagnosis, said: string, style: ReportStyle): string {
  const c = pc.createColors(style.colors);
  return [
    c.bold("The symptom"),
    `  "${prompt}" goes on with ${c.red(quoted(said))}, and so for ever.`,
    "  The fused kernel matches PyTorch when it is tested alone.",
    "",
    renderVerdict(diagnosis, style),
    // The full text has it already.
    ...(style.verbose ? [] : [c.bold("From cause to symptom"), chainText(diagnosis, style)]),
    c.bold("The model, healthy"),
    `  "${prompt}" goes on with ${c.green(quoted(diagnosis.proof.repair?.continuation ?? ""))}`,
    "",
    "The same on your own run: faultline diagnose YOUR.safetensors --model DIR\n",
  ].join("\n");
}
