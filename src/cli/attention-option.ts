import { Option } from "commander";
import { attentionNames } from "../engine/serve/open-path.js";

/** Whose attention runs, wherever a GPU is chosen. */
export function attentionOption(): Option {
  return new Option(
    "--attention <name>",
    "with --adapter cuda: its own kernels, or your FlashInfer (faultline flashinfer)",
  )
    .choices(attentionNames)
    .default("own");
}
