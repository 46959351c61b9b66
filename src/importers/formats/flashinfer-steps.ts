import { InputError } from "../../tensor/errors.js";
import type { Dump, DumpStep, DumpTensor } from "../dump.js";
import { Sequences } from "../sequences.js";
import { readIntegers } from "../token-tensors.js";

/** One call of FlashInfer's interface: its tensors and numbers by parameter, results as `result`. */
export interface Call {
  readonly folder: string;
  readonly name: string;
  readonly step: number;
  readonly tensors: ReadonlyMap<string, DumpTensor>;
  readonly numbers: ReadonlyMap<string, unknown>;
}

/** Whether a call plans attention over a batch: what comes after it is of that batch. */
export function isPlan({ name }: Pick<Call, "name">): boolean {
  return /Batch(Prefill|Decode)\w*Wrapper\.(plan|begin_forward)$/.test(name);
}

/** Sequences, page tables and positions of each step, as attention was planned and keys were appended. */
export function flashinferSteps(
  path: string,
  calls: readonly Call[],
): { steps: DumpStep[]; unclear: { value: string; why: string }[] } {
  const plans = new Map<number, Call>();
  for (const call of calls) if (isPlan(call) && !plans.has(call.step)) plans.set(call.step, call);
  if (plans.size === 0)
    throw new InputError(
      `${path}: expected a call that plans attention over a batch, such as BatchPrefillWithPagedKVCacheWrapper.plan, found none`,
    );
  const sequences = new Sequences();
  const steps: DumpStep[] = [];
  const unclear: { value: string; why: string }[] = [];
  for (const [step, plan] of plans) {
    const numbers = (...names: string[]) => integersOf(path, plan, names);
    const indptr = numbers("paged_kv_indptr", "indptr");
    const indices = numbers("paged_kv_indices", "indices");
    const last = numbers("paged_kv_last_page_len", "last_page_len");
    const pageSize = plan.numbers.get("page_size");
    const qo = numbers("qo_indptr") ?? (indptr && Array.from(indptr, (_, b) => b));
    if (!qo) {
      unclear.push({ value: plan.folder, why: "its plan does not say which rows belong to which sequence" });
      continue;
    }
    const keys = numbers("kv_indptr");
    const isPaged = indptr && indices && last && typeof pageSize === "number" && last.length === qo.length - 1;
    const lengths = isPaged
      ? last.map((entries, b) => (indptr[b + 1]! - indptr[b]! - 1) * pageSize + entries)
      : keys?.slice(1).map((end, b) => end - keys[b]!);
    if (!lengths || lengths.length !== qo.length - 1) {
      unclear.push({ value: plan.folder, why: "its plan does not say how long its sequences are" });
      continue;
    }
    const stretches = lengths.map((length, b) => {
      const count = qo[b + 1]! - qo[b]!;
      return { start: length - count, count, id: isPaged ? indices[indptr[b]!] : undefined };
    });
    if (stretches.some(({ start, count }) => !(start >= 0 && count >= 1)))
      throw new InputError(`${path}: ${plan.folder}: expected every sequence to have a row, and keys for all its rows`);
    const followed = sequences.follow(stretches);
    const append = calls.find((call) => call.step === step && call.name === "append_paged_kv_cache");
    const found = append && integersOf(path, append, ["positions"]);
    const positions = found?.length === qo.at(-1) ? found : undefined;
    if (!positions && followed.some(({ isWhole }) => !isWhole)) {
      unclear.push({
        value: plan.folder,
        why: "its sequences began before the recording, and their positions were not recorded",
      });
      continue;
    }
    steps.push({
      step,
      seq_ids: followed.map(({ sequence }) => sequence),
      qo_indptr: [...qo],
      ...(positions && { positions: [...positions] }),
      ...(isPaged && {
        kv_indptr: [...indptr],
        kv_indices: [...indices],
        kv_last_page_len: [...last],
        page_size: pageSize,
      }),
    });
  }
  return { steps, unclear };
}

function integersOf(path: string, call: Call, names: readonly string[]): readonly number[] | undefined {
  const tensor = names.map((name) => call.tensors.get(name)).find((found) => found !== undefined);
  const dump: Pick<Dump, "path"> = { path: `${path}: ${call.folder}` };
  return tensor && readIntegers(dump, tensor).values;
}
