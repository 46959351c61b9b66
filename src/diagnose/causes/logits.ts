import { select } from "../../spec/ops/select.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced, transformed } from "./transform.js";

/** Which row becomes logits, and what of it. */
export const logitsCauses = {
  "gathered-row-wrong": {
    kind: "metadata",
    transform: "T3",
    legend: "The logits are computed from another row than the last of their sequence.",
    hiddenBy: "one row",
    confusedWith: ["rows-shifted", "final-norm-skipped"],
    report: ["tenstorrent/tt-xla#5929", "the gather of last tokens returned wrong rows beyond a flat index"],
  },
  "logits-soft-cap": {
    kind: "parameter",
    transform: "T7",
    legend: "Logits pass through a soft cap that the model does not have.",
    hiddenBy: "logits far below the cap",
    confusedWith: ["soft-cap", "clamped"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(logitsCauses);

export const logitsSearches: readonly Search[] = [
  { causes: ["gathered-row-wrong"], stage: "named", appliesTo: ofKind("select"), rewrites: gathers },
  {
    causes: ["logits-soft-cap"],
    stage: "named",
    appliesTo: ({ site }) => site.site.what === "logits",
    rewrites: logits,
  },
];

function gathers({ site, investigation }: Proposal): Hypothesis[] {
  const table = investigation.observations.rows;
  const bounds = (row: number) => {
    const step = table.steps[table.stepOf[row]!]!;
    const b = table.sequenceOf[row]!;
    return {
      first: step.firstRow + step.qoIndptr[b]!,
      end: step.firstRow + step.qoIndptr[b + 1]!,
      stepFirst: step.firstRow,
      stepEnd: step.firstRow + step.rowCount,
    };
  };
  const clamp = (row: number, low: number, high: number) => Math.min(Math.max(row, low), high);
  const choices: [string, (row: number) => number][] = [
    ["the row before", (row) => clamp(row - 1, bounds(row).stepFirst, row)],
    ["the row after", (row) => clamp(row + 1, row, bounds(row).stepEnd - 1)],
    ["the first row of the sequence", (row) => bounds(row).first],
    ["the last row of the sequence", (row) => bounds(row).end - 1],
    ["the last row of the step", (row) => bounds(row).stepEnd - 1],
    ["the first row of the step", (row) => bounds(row).stepFirst],
    ["rows in reverse", (row) => bounds(row).stepFirst + bounds(row).stepEnd - 1 - row],
  ];
  return choices.map(([which, rowOf]) =>
    hypothesis("gathered-row-wrong", site, [replaced(site, { op: select(rowOf) })], {
      parameters: { which },
      statement: `the logits are computed from ${which}`,
    }),
  );
}

function logits({ site }: Proposal): Hypothesis[] {
  return [5, 10, 15, 20, 30, 50, 100].map((cap) => {
    const op = transformed(site.op, { softCap: cap }, (block) => ({
      value: block.value.map((x) => cap * Math.tanh(x / cap)),
      variance: block.variance.map((v, i) => v * (1 - Math.tanh(block.value[i]! / cap) ** 2) ** 2),
      range: block.range,
    }));
    return hypothesis("logits-soft-cap", site, [replaced(site, { op })], {
      parameters: { softCap: cap },
      statement: `logits pass through a soft cap of ${cap} that the model does not have`,
    });
  });
}
