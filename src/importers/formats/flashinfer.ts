import { readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import { parseJson } from "../../tensor/json.js";
import type { Dump, DumpFormat, DumpTensor } from "../dump.js";
import { isFile, isFolder, namesIn } from "../folder.js";
import { type Call, flashinferSteps, isPlan } from "./flashinfer-steps.js";
import { safetensorsFile } from "./safetensors.js";
import { dumpTensor, readTorchFile, tensorsWithin } from "./torch.js";

const maxJsonBytes = 2 ** 26;
const callFolder = /^\d{8}_\d{6}_\d{3}_pid\d+_(.+)_call\d+$/;

const metadataSchema = z.looseObject({
  function_name: z.string().max(200),
  function_signature: z.string().max(10_000),
  input_metadata: z.record(z.string().max(200), z.unknown()),
  graph_capture: z.boolean().optional(),
});

/** Arguments and results that are values of a model, by the function's name without its variants. */
const families: readonly { readonly functions: RegExp; readonly family: string; readonly values: readonly string[] }[] =
  [
    { functions: /^(gemma_)?rmsnorm$/, family: "norm", values: ["input", "result"] },
    { functions: /^(gemma_)?fused_add_rmsnorm$/, family: "norm", values: ["input", "residual"] },
    { functions: /^(silu|gelu|gelu_tanh)_and_mul$/, family: "gated", values: ["input", "result"] },
    { functions: /^apply_(llama31_)?rope/, family: "rope", values: ["q", "k", "query", "key", "result_0", "result_1"] },
    { functions: /^append_paged_kv_cache$/, family: "append", values: ["append_key", "append_value"] },
    {
      functions: /Batch(Prefill|Decode)\w*Wrapper\.(run|forward)$/,
      family: "attention",
      values: ["q", "k", "v", "result", "result_0"],
    },
  ];

/**
 * What FlashInfer writes with `FLASHINFER_LOGLEVEL=10`: a folder for each call of its interface, with the arguments, the result and
 * a description; a step begins where attention is planned. Tokens are not among them. Functions that write in place leave
 * what they were given.
 * https://github.com/flashinfer-ai/flashinfer/blob/main/flashinfer/api_logging.py
 */
export const flashinferCalls: DumpFormat = {
  id: "flashinfer",
  title: "FlashInfer's FLASHINFER_LOGLEVEL=10",
  claims: (path) => isFolder(path) && callsIn(path).length > 0,
  open(path): Dump {
    const skipped: { value: string; why: string }[] = [];
    const calls: Call[] = [];
    let step = -1;
    for (const folder of inOrder(path)) {
      const call = readCall(join(path, folder));
      if (!call) skipped.push({ value: folder, why: "made within a CUDA graph: the dump holds its last replay alone" });
      else {
        if (isPlan(call) && !(calls.length > 0 && isPlan(calls.at(-1)!))) step++;
        calls.push({ ...call, step });
      }
    }
    const { steps, unclear } = flashinferSteps(path, calls);
    skipped.push(...unclear);
    const counts = new Map<string, number>();
    const tensors: DumpTensor[] = [];
    for (const call of calls) {
      const known = families.find(({ functions }) => functions.test(call.name));
      if (!known) {
        if (!isPlan(call)) skipped.push({ value: call.folder, why: "a function whose arguments are not read" });
        continue;
      }
      const family = `${known.family}${known.family === "norm" ? (call.tensors.get("weight")?.shape[0] ?? 0) : ""}`;
      const key = `${call.step} ${family}`;
      const ordinal = counts.get(key) ?? 0;
      counts.set(key, ordinal + 1);
      for (const argument of known.values) {
        const tensor = call.tensors.get(argument);
        if (tensor && call.step >= 0)
          tensors.push({ ...tensor, name: `${family}.${ordinal}.${argument}`, step: call.step });
      }
      if (call.tensors.has("paged_kv_cache"))
        skipped.push({ value: `${call.folder}: paged_kv_cache`, why: "pages are not read from such a dump" });
    }
    return { path, format: this.title, tensors, skipped, steps, ordered: true };
  },
};

function callsIn(path: string): string[] {
  return namesIn(path).filter((name) => callFolder.test(name) && isFile(join(path, name, "metadata.jsonl")));
}

/** Calls in the order of the session's log; the paths in it are taken for names of folders beside it, and nothing else. */
function inOrder(path: string): string[] {
  const folders = callsIn(path);
  const log = join(path, "session.jsonl");
  if (!isFile(log)) return folders;
  const known = new Set(folders);
  const logged = new Set<string>();
  for (const record of recordsOf(log)) {
    const name = basename(String((record as { dump_dir?: unknown } | null)?.dump_dir ?? ""));
    if (known.has(name)) logged.add(name);
  }
  return [...logged, ...folders.filter((name) => !logged.has(name))];
}

/** Records of a log, a line each; an unfinished last one is left out. */
function recordsOf(path: string): unknown[] {
  if (statSync(path).size > maxJsonBytes) throw new InputError(`${path}: expected at most ${maxJsonBytes} bytes`);
  const lines = readFileSync(path, "utf8").split("\n");
  return lines
    .slice(0, -1)
    .flatMap((line, i) => (line.trim() === "" ? [] : [parseJson(line, `${path}: line ${i + 1}`)]));
}

/** A call with its tensors by parameter; undefined where a CUDA graph recorded it. */
function readCall(folder: string): Omit<Call, "step"> | undefined {
  const path = join(folder, "metadata.jsonl");
  const parsed = metadataSchema.safeParse(recordsOf(path).at(-1));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new InputError(`${path}: ${issue.path.map(String).join(".") || "record"}: ${issue.message}`);
  }
  const { function_name: name, function_signature: signature, input_metadata: metadata, graph_capture } = parsed.data;
  if (graph_capture) return undefined;
  const parameters = parametersOf(signature);
  const named = (key: string) => {
    const place = /^arg_(\d+)(.*)$/.exec(key);
    return place ? `${parameters[Number(place[1])] ?? key}${place[2]}` : key.replace(/^kwarg_/, "");
  };
  const tensors = new Map<string, DumpTensor>();
  for (const kind of ["inputs", "outputs"])
    for (const tensor of tensorsOf(folder, kind)) tensors.set(named(tensor.name), tensor);
  const numbers = new Map(Object.entries(metadata).map(([key, value]) => [named(key), value]));
  return { folder: basename(folder), name, tensors, numbers };
}

function tensorsOf(folder: string, kind: string): readonly DumpTensor[] {
  const home = `${basename(folder)}/${kind}/`;
  const torch = join(folder, `${kind}.pt`);
  if (isFile(torch))
    return [...tensorsWithin(readTorchFile(torch), torch)].map(([name, tensor]) => dumpTensor(tensor, name, 0, home));
  const plain = join(folder, `${kind}.safetensors`);
  return isFile(plain)
    ? safetensorsFile.open(plain).tensors.map((each) => ({ ...each, storage: home + each.name }))
    : [];
}

/** Names of a Python signature's parameters, in order. */
function parametersOf(signature: string): string[] {
  const names: string[] = [];
  let depth = 0;
  let start = 1;
  for (let i = 1; i < signature.length; i++) {
    const c = signature[i]!;
    if (c === "[" || c === "(" || c === "{") depth++;
    const ends = (c === "," || c === ")") && depth === 0;
    if (ends)
      names.push(
        signature
          .slice(start, i)
          .trim()
          .replace(/[:=].*$/s, "")
          .trim(),
      );
    if (ends && c === ")") break;
    if (ends) start = i + 1;
    else if (c === "]" || c === ")" || c === "}") depth--;
  }
  return names;
}
