import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { affine, replaced, restricted } from "./transform.js";

/** More wrong elements than this are no accident of single ones. */
const most = 4;
/** |z| from which an element is wrong. */
const wrongFrom = 6;

/** Single elements that are wrong while everything around them is right. */
export const elementCauses = {
  "element-wrong": {
    kind: "environment",
    transform: "T14",
    legend: "Single elements are wrong and everything around is right: a stray write, a race or a flipped bit.",
    hiddenBy: "elements that are not sampled",
    confusedWith: ["embedding-token-wrong", "dropout"],
    report: ["vllm-project/vllm-xpu-kernels#411", "shared memory was written before it was read: single heads broke"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(elementCauses);

export const elementSearches: readonly Search[] = [
  { causes: ["element-wrong"], stage: "fitted", appliesTo: isRecorded, rewrites: strayElements },
];

function strayElements({ site, finding }: Proposal): Hypothesis[] {
  const { rows, columns, observed, expected, z } = finding.comparison;
  const wrong = [...z.keys()].filter((i) => Math.abs(z[i]!) > wrongFrom);
  if (wrong.length === 0 || wrong.length > most || z.length < 100 * wrong.length) return [];
  if (wrong.some((i) => !Number.isFinite(observed[i]!))) return [];
  const held = new Map(
    wrong.map((i) => [`${rows[Math.floor(i / columns.length)]} ${columns[i % columns.length]}`, observed[i]!]),
  );
  const first = wrong[0]!;
  const [row, column] = [rows[Math.floor(first / columns.length)]!, columns[first % columns.length]!];
  const key = (r: number, c: number) => `${r} ${c}`;
  const op = restricted(
    site.op,
    affine(
      site.op,
      { stray: wrong.length },
      () => 0,
      (r, c) => held.get(key(r, c)) ?? 0,
    ),
    {},
    (r, c) => held.has(key(r, c)),
  );
  return [
    hypothesis("element-wrong", site, [replaced(site, { op })], {
      fitted: wrong.length + 1,
      heldOut: (r, c) => !held.has(key(rows[r]!, columns[c]!)),
      parameters: { row, column, holds: observed[first]!, expected: Number(expected[first]!.toPrecision(4)) },
      statement: `${wrong.length === 1 ? "a single element is" : `${wrong.length} single elements are`} wrong, row ${row}, column ${column} of ${lastName(site.name)} (${short(observed[first]!)}, not ${short(expected[first]!)}), and everything around is right: a stray write, a race or a flipped bit`,
      group: "element-wrong",
    }),
  ];
}
