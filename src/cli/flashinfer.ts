import { Command, Option } from "commander";
import { buildModules, modulesOf } from "../engine/flashinfer/build.js";
import { headDims } from "../engine/flashinfer/geometry.js";
import { builtFolder } from "../engine/flashinfer/module-folder.js";
import { type AttentionModule, moduleName } from "../engine/flashinfer/module-names.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { decoderGraph } from "../spec/models/decoder.js";
import { InputError } from "../tensor/errors.js";
import { withProgress } from "./verdict.js";

interface BuildOptions {
  readonly model?: string;
  readonly headDim?: number[];
  readonly window?: boolean;
  readonly softCap?: boolean;
  readonly python: string;
}

/** `faultline flashinfer`: the user's own FlashInfer, for --attention flashinfer. */
export function flashinferCommand(): Command {
  const flashinfer = new Command("flashinfer").description(
    "your own FlashInfer, whose kernels --adapter cuda --attention flashinfer calls",
  );
  flashinfer
    .command("build")
    .summary("compile the modules of a model once")
    .description(
      "Compiles FlashInfer's modules once, in bfloat16: page, norm and rope, and decode and prefill for --model or for heads of --head-dim. Its own generator, nvcc and ninja do the work, in a Python that has the packages flashinfer-python, apache-tvm-ffi and torch. Nothing else of faultline needs Python.",
    )
    .option("-m, --model <dir>", "model folder, for whose layers attention is compiled")
    .addOption(new Option("--head-dim <n...>", `channels of a head: ${headDims.join(", ")}`).argParser(collectHeadDims))
    .option("--window", "with --head-dim: attention with a sliding window")
    .option("--soft-cap", "with --head-dim: attention with a soft cap of logits")
    .option("--python <command>", "the Python in which FlashInfer is installed", "python3")
    .addHelpText(
      "after",
      `
Prints the folder, in which faultline looks for modules before FlashInfer's own cache; FLASHINFER_WORKSPACE_BASE moves both,
and FAULTLINE_FLASHINFER names another folder to look in.

Exit status: 0, or 2 when something is missing or does not compile.

Examples:
  faultline flashinfer build --model models/ishmael-7m
  faultline flashinfer build --head-dim 64 128 --python ~/flashinfer/bin/python`,
    )
    .action(build);
  return flashinfer;
}

async function build(options: BuildOptions): Promise<void> {
  const { python } = options;
  const modules = wanted(options);
  const names = ["page", "norm", "rope", ...modules.map(moduleName)];
  process.stderr.write(
    `${python} compiles ${names.length} modules of its FlashInfer with nvcc, once, into ${builtFolder()}; this takes minutes.\n`,
  );
  const { flashinfer, tvmFfi } = await withProgress((progress) =>
    buildModules({ python, modules, progress: (done) => progress("compiling", done) }),
  );
  process.stderr.write(`FlashInfer ${flashinfer}, apache-tvm-ffi ${tvmFfi}: ${names.join(", ")}\n`);
  process.stdout.write(`${builtFolder()}\n`);
}

/** @throws InputError when a model and sizes are both given, or what changes an attention without any. */
function wanted({ model, headDim, window = false, softCap = false }: BuildOptions): AttentionModule[] {
  if (model !== undefined && (headDim || window || softCap))
    throw new InputError("--model: expected no --head-dim, --window or --soft-cap beside it, the model says them");
  if (!headDim && (window || softCap)) throw new InputError("--window and --soft-cap: expected --head-dim beside them");
  if (model !== undefined) return modulesOf(decoderGraph(readModelConfig(model).config));
  return [...new Set(headDim)].flatMap((dim) =>
    (["decode", "prefill"] as const).map((kind) => ({ kind, headDim: dim, window, softCap })),
  );
}

function collectHeadDims(text: string, all: number[] = []): number[] {
  const dim = Number(text);
  if (!headDims.includes(dim)) {
    throw new InputError(`--head-dim: FlashInfer has modules for ${headDims.join(", ")}, found "${text}"`);
  }
  return [...all, dim];
}
