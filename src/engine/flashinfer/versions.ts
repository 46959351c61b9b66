/** Argument lists that differ between FlashInfer's versions; each function itself says how many arguments it takes. */
interface VersionRow {
  readonly versions: string;
  /** Of a prefill module's `plan`: num_colocated_ctas, uniform_q_len and fixed_uniform_q_len came one after the other. */
  readonly prefillPlan: number;
  /** Optional tensors of a prefill `run` between enable_pdl and the scalars: scales of the cache came last. */
  readonly prefillTensors: number;
}

const rows: readonly VersionRow[] = [
  { versions: "0.5.3 to 0.6.9", prefillPlan: 19, prefillTensors: 6 },
  { versions: "0.6.11 to 0.6.15", prefillPlan: 19, prefillTensors: 8 },
  { versions: "0.6.16 to 0.7.2", prefillPlan: 20, prefillTensors: 8 },
  { versions: "0.7.4", prefillPlan: 21, prefillTensors: 8 },
];

/** Arguments of functions that are the same in every version. */
export const argumentCounts = {
  decodePlan: 15,
  decodeRun: 19,
  append_paged_kv_cache: 10,
  rmsnorm: 5,
  fused_add_rmsnorm: 5,
  apply_rope_pos_ids: 9,
} as const;

/** Arguments of a prefill run without the optional tensors. */
const pagedRun = 21;
const raggedRun = 19;

/** How a prefill module is called. @throws Error in one sentence when it is of a version that is not known. */
export function prefillVersion(
  path: string,
  counts: { plan: number; paged_run: number; ragged_run: number },
): VersionRow {
  const row = rows.find(
    ({ prefillPlan, prefillTensors }) =>
      prefillPlan === counts.plan &&
      pagedRun + prefillTensors === counts.paged_run &&
      raggedRun + prefillTensors === counts.ragged_run,
  );
  if (row) return row;
  throw new Error(
    `${path}: plan, paged_run and ragged_run take ${counts.plan}, ${counts.paged_run} and ${counts.ragged_run} arguments, as in no version of FlashInfer that is known here (${rows.map(({ versions }) => versions).join(", ")})`,
  );
}

/** @throws Error in one sentence when a function does not take as many arguments as are known. */
export function requireCount(path: string, name: string, found: number, expected: number): void {
  if (found === expected) return;
  throw new Error(
    `${path}: ${name} takes ${found} arguments, the versions of FlashInfer that are known here take ${expected} (${rows[0]!.versions} and later)`,
  );
}
