import { basename, join } from "node:path";
import { InputError } from "../../tensor/errors.js";
import type { DumpFormat, DumpTensor } from "../dump.js";
import { isFolder, namesIn } from "../folder.js";
import { dumpTensor, readTorchFile, StoredTensor } from "./torch.js";

const maxStep = 2 ** 31;

/** What a file's name says: `step=0___rank=0___dump_index=1___name=…___layer_id=3.pt`. */
interface Tags {
  readonly step: number;
  readonly index: number;
  readonly rank: number;
  readonly name: string;
  readonly layer: number | undefined;
}

/**
 * What SGLang's dumper writes (`DUMPER_ENABLE=1`, with `DUMPER_NON_INTRUSIVE_MODE=all` the inputs and outputs of every module):
 * a file for each value, its name holding step, rank, order and layer.
 * https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/debug_utils/dumper.py
 */
export const sglangDumper: DumpFormat = {
  id: "sglang-dumper",
  title: "SGLang's dumper",
  claims: (path) => isFolder(path) && (dumpsIn(path).length > 0 || experimentsIn(path).length > 0),
  open(path) {
    const folder = experimentFolder(path);
    const files = dumpsIn(folder)
      .map((file) => ({ file, tags: tagsOf(file, folder) }))
      .sort((a, b) => a.tags.index - b.tags.index);
    const other = files.find(({ tags }) => tags.rank !== files[0]!.tags.rank);
    if (other)
      throw new InputError(
        `${folder}: expected the dump of one rank, found files of rank ${files[0]!.tags.rank} and ${other.tags.rank}: parts of several ranks are not put together from such a dump; record each rank with python/faultline`,
      );
    const tensors: DumpTensor[] = [];
    const skipped: { value: string; why: string }[] = [];
    const taken = new Set<string>();
    for (const { file, tags } of files) {
      const name = moduleName(tags);
      const where = join(folder, file);
      const content = readTorchFile(where);
      const value = content instanceof Map && content.has("value") ? content.get("value") : content;
      const key = `${tags.step} ${name}`;
      if (!(value instanceof StoredTensor)) skipped.push({ value: name, why: "no tensor" });
      else if (taken.has(key)) skipped.push({ value: name, why: `dumped again in step ${tags.step}` });
      else tensors.push(dumpTensor(value, name, tags.step, `${file}/`));
      taken.add(key);
    }
    const has = (name: string) => tensors.some((tensor) => tensor.name === name);
    const tokens = has("input_ids")
      ? {
          input_ids: "input_ids",
          positions: has("positions") ? "positions" : undefined,
          lengths: has("seq_lens") ? "seq_lens" : undefined,
          sequences: has("req_pool_indices") ? "req_pool_indices" : undefined,
        }
      : undefined;
    return { path, format: this.title, tensors, skipped, tokens, ordered: true };
  },
};

function dumpsIn(path: string): string[] {
  return namesIn(path).filter((name) => /^step=\d+___rank=\d+___dump_index=\d+___name=.*\.pt$/.test(name));
}

function experimentsIn(path: string): string[] {
  return namesIn(path).filter((name) => isFolder(join(path, name)) && dumpsIn(join(path, name)).length > 0);
}

function experimentFolder(path: string): string {
  if (dumpsIn(path).length > 0) return path;
  const experiments = experimentsIn(path);
  if (experiments.length === 1) return join(path, experiments[0]!);
  throw new InputError(`${path}: expected one dump, found ${experiments.length}: give ${join(path, experiments[0]!)}`);
}

function tagsOf(file: string, folder: string): Tags {
  const tags = new Map(
    basename(file, ".pt")
      .split("___")
      .map((pair): [string, string] => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
  );
  const number = (key: string) => {
    const value = Number(tags.get(key));
    if (!(Number.isSafeInteger(value) && value >= 0 && value < maxStep))
      throw new InputError(`${join(folder, file)}: ${key}: expected a whole number, found "${tags.get(key)}"`);
    return value;
  };
  const layer = tags.has("layer_id") ? number("layer_id") : undefined;
  return {
    step: number("step"),
    index: number("dump_index"),
    rank: number("rank"),
    name: tags.get("name") ?? "",
    layer,
  };
}

/** A module that several layers share has the name of the first; the layer it ran in is a tag. */
function moduleName({ name, layer }: Tags): string {
  const module = name.replace(/^non_intrusive__/, "");
  if (layer === undefined) return module;
  if (/(^|\.)layers\.\d+\./.test(module)) return module.replace(/((?:^|\.)layers\.)\d+\./, `$1${layer}.`);
  return `layers.${layer}.${module}`;
}
