import type { CauseEntries } from "./cause-entry.js";
import { headCauses } from "./heads.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { relabelled, replaced } from "./transform.js";
import { worldOf } from "./world.js";

/** Rows, heads or columns that changed places. */
export const relabellingCauses = {
  "rows-shifted": {
    kind: "metadata",
    transform: "T3",
    legend: "Rows hold what belongs to other rows.",
    hiddenBy: "one row",
    confusedWith: ["strides-ignored", "gathered-row-wrong", "keys-of-other-sequence"],
    report: ["vllm-project/vllm#36580", "slots of a chunk were shifted where a prompt filled its last page"],
  },
  "columns-permuted": {
    kind: "seam",
    transform: "T1",
    legend: "Channels come in another order: shards in reverse, interleaved, shifted.",
    hiddenBy: "never",
    confusedWith: ["heads-permuted", "strides-ignored"],
    report: ["sgl-project/sglang#34529", "a column-parallel product was cut at the wrong places"],
  },
  "vocabulary-permuted": {
    kind: "seam",
    transform: "T1",
    legend: "The vocabulary comes in another order: its shards are gathered wrongly, or it is shifted.",
    hiddenBy: "never",
    confusedWith: ["columns-permuted", "weights-untied"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...relabellingCauses, ...headCauses });
const isOwn = (proposal: Proposal) => isRecorded(proposal) && !["identity", "append"].includes(proposal.site.op.kind);

/** The map is read off even columns by nearest neighbour; odd columns judge it. */
export const relabellingSearches: readonly Search[] = [
  { causes: ["rows-shifted"], stage: "fitted", appliesTo: isOwn, rewrites: rowMaps },
  { causes: ["heads-permuted"], stage: "fitted", appliesTo: isOwn, rewrites: headMaps },
  { causes: ["columns-permuted", "vocabulary-permuted"], stage: "fitted", appliesTo: isOwn, rewrites: blockMaps },
];

/** Mean square of z between a recorded row (or head) and a candidate, over even columns. */
function distance(
  observed: Float64Array,
  at: number,
  expected: Float64Array,
  from: number,
  noise: Float64Array,
  count: number,
): number {
  let sum = 0;
  let n = 0;
  for (let c = 0; c < count; c += 2) {
    const sigma = noise[from + c]!;
    if (!Number.isFinite(sigma) || sigma === 0) continue;
    const z = (observed[at + c]! - expected[from + c]!) / sigma;
    sum += Math.min(z * z, 1e12);
    n++;
  }
  return n ? sum / n : Infinity;
}

const closeEnough = 9;
const maxCandidates = 256;

function rowMaps({ site, finding, investigation }: Proposal): Hypothesis[] {
  const { rows, columns, observed } = finding.comparison;
  const table = investigation.observations.rows;
  const stepIndex = table.stepOf[rows[0]!]!;
  const candidates = table.rowsOf(stepIndex).subarray(0, maxCandidates);
  if (columns.length < 8 || candidates.length < 2) return [];
  const block = investigation.evaluator.evaluate(site.name, candidates, columns);
  const noise = block.variance.map((v, i) => Math.sqrt(v + (2 ** -9 * block.value[i]!) ** 2));
  const from = new Map<number, number>();
  for (let r = 0; r < rows.length; r++) {
    if (table.stepOf[rows[r]!] !== stepIndex) continue;
    let best = Infinity;
    for (let k = 0; k < candidates.length; k++) {
      const own = candidates[k] === rows[r];
      const d = distance(observed, r * columns.length, block.value, k * columns.length, noise, columns.length);
      if (d < best || (own && d < closeEnough)) {
        best = own && d < closeEnough ? -1 : d;
        from.set(rows[r]!, candidates[k]!);
      }
    }
    if (best > closeEnough) return [];
  }
  const moved = [...from].filter(([row, source]) => row !== source);
  if (moved.length === 0) return [];
  const shifts = new Set(moved.map(([row, source]) => source - row));
  const op = relabelled(site.op, { rows: "relabelled" }, (row, column) => [from.get(row) ?? row, column]);
  const shift = shifts.size === 1 ? [...shifts][0]! : undefined;
  return [
    hypothesis("rows-shifted", site, [replaced(site, { op })], {
      fitted: shift === undefined ? moved.length : 1,
      heldOut: (_, c) => c % 2 === 1,
      parameters:
        shift === undefined
          ? { rows: Object.fromEntries(moved.slice(0, 32).map(([row, source]) => [String(row), source])) }
          : { shift, rows: moved.length },
      statement:
        shift === undefined
          ? `${moved.length} rows hold other rows' values: the row map is wrong`
          : `${moved.length} rows hold the value of the row ${Math.abs(shift)} ${shift < 0 ? "before" : "after"}`,
    }),
  ];
}

function headMaps({ site, finding }: Proposal): Hypothesis[] {
  const { rows, observed, columns, expected, noise } = finding.comparison;
  const count = site.heads ?? 1;
  if (count < 2 || columns.length !== site.columns) return [];
  const width = site.columns / count;
  const map: number[] = [];
  for (let target = 0; target < count; target++) {
    let best = Infinity;
    for (let source = 0; source < count; source++) {
      let sum = 0;
      for (let r = 0; r < rows.length; r++) {
        const [at, from] = [target, source].map((head) => r * site.columns + head * width) as [number, number];
        sum += distance(observed, at, expected, from, noise, width);
      }
      if (sum / rows.length < best) {
        best = sum / rows.length;
        map[target] = source;
      }
    }
    if (best > closeEnough) return [];
  }
  if (map.every((source, target) => source === target)) return [];
  const op = relabelled(site.op, { map }, (row, column) => [
    row,
    map[Math.floor(column / width)]! * width + (column % width),
  ]);
  return [
    hypothesis("heads-permuted", site, [replaced(site, { op })], {
      fitted: 1,
      heldOut: (_, c) => c % 2 === 1,
      parameters: { map },
      statement: `heads are exchanged: heads ${map.join(" ")} stand where 0 to ${count - 1} belong`,
    }),
  ];
}

/** Blocks of columns in another order: vocabulary shards gathered wrongly, halves exchanged. */
function blockMaps({ site, investigation }: Proposal): Hypothesis[] {
  const out: Hypothesis[] = [];
  const isLogits = site.site.what === "logits";
  const cause = isLogits ? "vocabulary-permuted" : "columns-permuted";
  const add = (title: string, source: (column: number) => number) => {
    out.push(
      hypothesis(
        cause,
        site,
        [
          replaced(site, {
            op: relabelled(site.op, { order: title }, (row, column) => [row, source(column)]),
          }),
        ],
        {
          parameters: { order: title },
          statement: `${isLogits ? "the vocabulary" : "channels"} come in another order: ${title}`,
        },
      ),
    );
  };
  for (const shards of [2, 4, 8]) {
    if (site.columns % shards !== 0 || site.columns / shards < 2) continue;
    // Shards of the run's own ranks are a cause of their own.
    if (site.op.kind === "linear" && shards === worldOf(investigation)) continue;
    const width = site.columns / shards;
    add(`${shards} shards in reverse`, (c) => (shards - 1 - Math.floor(c / width)) * width + (c % width));
    if (shards > 2)
      add(`${shards} shards rotated`, (c) => ((Math.floor(c / width) + 1) % shards) * width + (c % width));
    add(`${shards} shards interleaved`, (c) => (c % shards) * width + Math.floor(c / shards));
    add(`${shards} interleaved parts joined as blocks`, (c) => (c % width) * shards + Math.floor(c / width));
  }
  add("reversed", (c) => site.columns - 1 - c);
  for (const shift of [1, -1]) add(`shifted by ${shift}`, (c) => (c + shift + site.columns) % site.columns);
  return investigation.isDeep(site.name) ? [] : out;
}
