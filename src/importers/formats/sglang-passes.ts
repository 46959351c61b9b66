import { join } from "node:path";
import { InputError } from "../../tensor/errors.js";
import type { DumpFormat, DumpTensor, TokenTensors } from "../dump.js";
import { isFile, isFolder, namesIn } from "../folder.js";
import { dumpTensor, readTorchFile, tensorsWithin } from "./torch.js";

const passFile = /^Pass(\d{5,9})\.pt$/;
const rankFolder = /^TP(\d+)_PP(\d+)_Rank(\d+)_pid\d+$/;

/**
 * What SGLang writes with `--debug-tensor-dump-output-folder`: a folder for each process, in it a file for each forward pass
 * with the outputs of all leaf modules. What runs behind the decoder stands in the file of the pass after.
 * https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/debug_utils/tensor_dump_forward_hook.py
 */
export const sglangPasses: DumpFormat = {
  id: "sglang-passes",
  title: "SGLang's --debug-tensor-dump-output-folder",
  claims: (path) =>
    passesIn(path).length > 0 ||
    (isFolder(path) && namesIn(path).some((name) => rankFolder.test(name) && passesIn(join(path, name)).length > 0)),
  open(path) {
    const folder = processFolder(path);
    const tensors: DumpTensor[] = [];
    const skipped: { value: string; why: string }[] = [];
    let tokens: TokenTensors | undefined;
    for (const file of passesIn(folder)) {
      const step = Number(passFile.exec(file)![1]);
      const where = join(folder, file);
      const found = tensorsWithin(readTorchFile(where), where);
      const ids = [...found.keys()].find((name) => name.endsWith(".forward_batch_info.input_ids"));
      if (ids === undefined)
        throw new InputError(`${where}: expected forward_batch_info.input_ids of the pass, found none`);
      const info = ids.slice(0, -"input_ids".length);
      const decoder = ids.slice(0, -".forward_batch_info.input_ids".length);
      tokens = { input_ids: ids, positions: `${info}positions`, lengths: `${info}seq_lens` };
      for (const [name, tensor] of found) {
        const isBehind = !name.startsWith(`${decoder}.`);
        if (isBehind && step === 0) skipped.push({ value: name, why: "of a pass before the first one" });
        else if (/\.rotary_emb(\.|$)/.test(name))
          skipped.push({ value: name, why: "one module rotates for all layers, and the dump holds what it gave last" });
        else tensors.push(dumpTensor(tensor, name, isBehind ? step - 1 : step, `${file}/`));
      }
    }
    return { path, format: this.title, tensors, skipped, tokens, ordered: true };
  },
};

function passesIn(path: string): string[] {
  return isFolder(path) ? namesIn(path).filter((name) => passFile.test(name) && isFile(join(path, name))) : [];
}

/** The folder of the one process that ran. */
function processFolder(path: string): string {
  if (passesIn(path).length > 0) return path;
  const processes = namesIn(path).filter((name) => rankFolder.test(name));
  const parallel = processes.find((name) => !/^TP0_PP0_Rank0_/.test(name));
  if (processes.length === 1 && parallel === undefined) return join(path, processes[0]!);
  throw new InputError(
    `${path}: expected the dump of one process, found ${processes.length}${parallel ? `, among them ${parallel}` : ""}: parts of several ranks are not put together from such a dump; record each rank with python/faultline`,
  );
}
