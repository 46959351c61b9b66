import type { DumpFormat } from "../dump.js";
import { arrayFolder } from "./array-folder.js";
import { flashinferCalls } from "./flashinfer.js";
import { llamaDebug } from "./llama-debug.js";
import { numpyArchive, numpyArray } from "./numpy.js";
import { safetensorsFile } from "./safetensors.js";
import { sglangDumper } from "./sglang-dumper.js";
import { sglangPasses } from "./sglang-passes.js";
import { torchFile } from "./torch.js";

/** Every format that is read; the first one that claims a path opens it. */
export const dumpFormats: readonly DumpFormat[] = [
  flashinferCalls,
  sglangDumper,
  sglangPasses,
  llamaDebug,
  safetensorsFile,
  torchFile,
  numpyArchive,
  numpyArray,
  arrayFolder,
];
