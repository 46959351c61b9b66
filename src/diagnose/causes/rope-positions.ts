import type { GraphNode } from "../../spec/graph.js";
import { rope } from "../../spec/ops/rope.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import { roundTo } from "../../tensor/dtype.js";
import { isDecoded } from "./append.js";
import type { CauseEntries } from "./cause-entry.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** RoPE: the positions it rotates to. */
export const positionCauses = {
  "position-offset": {
    kind: "metadata",
    transform: "T5",
    legend: "Positions are off by one number.",
    hiddenBy: "attention, where all queries and keys share the shift",
    confusedWith: ["rope-theta", "rope-linear-scale", "slot-mapping"],
    report: ["GeeeekExplorer/nano-vllm#67", "decode steps rotated by len(seq), one position too far"],
    isRotary: true,
    isLatentWhenShared: true,
  },
  "position-restarts": {
    kind: "metadata",
    transform: "T5",
    legend: "Positions are row numbers of the step: they run on across sequences and forget what came before.",
    hiddenBy: "a single prefill of one sequence",
    confusedWith: ["position-offset", "positions-wrong"],
    report: ["Blaizzy/mlx-vlm#1983", "every decode step had position 0"],
    isRotary: true,
  },
  "position-reversed": {
    kind: "metadata",
    transform: "T5",
    legend: "Positions run backwards.",
    hiddenBy: "one token",
    confusedWith: ["rope-reversed"],
    isRotary: true,
  },
  "position-pads-counted": {
    kind: "metadata",
    transform: "T5",
    legend: "Positions count the pad tokens, which the others do not.",
    hiddenBy: "sequences without padding",
    confusedWith: ["position-offset", "padding-attended"],
    report: ["unslothai/unsloth#3699", "left padding without position ids: batches of unequal texts were gibberish"],
    isRotary: true,
  },
  "positions-rounded": {
    kind: "metadata",
    transform: "T5",
    legend: "Positions pass through 16 bits, which are exact only up to 256 or 2048: later tokens share angles.",
    hiddenBy: "positions up to 256 (bfloat16) or 2048 (float16)",
    confusedWith: ["rope-angles-rounded", "rope-table-clamped"],
    report: ["huggingface/transformers#25681", "positions in 16 bits were not whole numbers any more"],
  },
  "positions-wrong": {
    kind: "metadata",
    transform: "T5",
    legend: "Some rows are rotated to other positions than theirs, by no single offset.",
    hiddenBy: "never",
    confusedWith: ["position-restarts", "rope-table-clamped"],
  },
  "rope-table-clamped": {
    kind: "parameter",
    transform: "T5",
    legend: "The table of RoPE is too short; later tokens use its last position.",
    hiddenBy: "positions within the table",
    confusedWith: ["rope-table-wrapped", "positions-rounded"],
    report: ["sgl-project/sglang#10788", "cos and sin ended before the positions did"],
  },
  "rope-table-wrapped": {
    kind: "parameter",
    transform: "T5",
    legend: "The positions of RoPE start over after the end of its table.",
    hiddenBy: "positions within the table",
    confusedWith: ["rope-table-clamped", "position-restarts"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(positionCauses);
const isRope = ofKind("rope");
const offsets = [1, -1, 2, -2, 3, -3, 4, -4];

/** The rotation to other positions. */
const moved = ({ site }: Proposal, positionOf: (row: number, position: number) => number): GraphNode[] => [
  replaced(site, { op: rope({ ...(site.op.attributes as unknown as RopeAttributes), positionOf }) }),
];
const lastPosition = ({ investigation, finding }: Proposal) =>
  Math.max(...Array.from(finding.comparison.rows, (row) => investigation.observations.rows.position[row]!));

export const positionSearches: readonly Search[] = [
  {
    causes: ["position-offset"],
    stage: "large",
    appliesTo: isRope,
    rewrites: (proposal) =>
      offsets.map((offset) =>
        hypothesis(
          "position-offset",
          proposal.site,
          moved(proposal, (_, position) => position + offset),
          { parameters: { offset }, statement: `RoPE positions are off by ${signed(offset)}` },
        ),
      ),
  },
  {
    // Where the rotation was recorded, its rows say by themselves which of them are off.
    causes: ["position-offset"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && !proposal.investigation.observations.has(proposal.site.name),
    rewrites(proposal) {
      const table = proposal.investigation.observations.rows;
      if (!table.stepOf.some((_, row) => isDecoded(table, row))) return [];
      return [1, -1, 2, -2].map((offset) =>
        hypothesis(
          "position-offset",
          proposal.site,
          moved(proposal, (row, position) => position + (isDecoded(table, row) ? offset : 0)),
          {
            parameters: { offset, steps: "decode" },
            statement: `in decode steps RoPE positions are off by ${signed(offset)}`,
          },
        ),
      );
    },
  },
  {
    causes: ["position-restarts"],
    stage: "large",
    appliesTo: isRope,
    rewrites(proposal) {
      const table = proposal.investigation.observations.rows;
      const nodes = moved(proposal, (row) => row - table.steps[table.stepOf[row]!]!.firstRow);
      const statement =
        "RoPE positions are row numbers of the step: they run on across sequences and forget what came before";
      return [hypothesis("position-restarts", proposal.site, nodes, { statement })];
    },
  },
  {
    causes: ["position-reversed"],
    stage: "large",
    appliesTo: isRope,
    rewrites(proposal) {
      const table = proposal.investigation.observations.rows;
      const nodes = moved(proposal, (row, position) => table.keyCount(row) - 1 - position);
      return [hypothesis("position-reversed", proposal.site, nodes, { statement: "RoPE positions run backwards" })];
    },
  },
  {
    causes: ["position-pads-counted"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && proposal.investigation.capture.paddings !== undefined,
    rewrites(proposal) {
      const table = proposal.investigation.observations.rows;
      return [
        hypothesis(
          "position-pads-counted",
          proposal.site,
          moved(proposal, (row, position) => table.columnOf(row) ?? position),
          { statement: "RoPE positions count the pad tokens, which the others do not" },
        ),
      ];
    },
  },
  {
    causes: ["positions-rounded"],
    stage: "large",
    appliesTo: isRope,
    rewrites: (proposal) =>
      (
        [
          ["bfloat16", 2 ** 8],
          ["float16", 2 ** 11],
        ] as const
      )
        .filter(([, exactUpTo]) => lastPosition(proposal) > exactUpTo)
        .map(([dtype, exactUpTo]) =>
          hypothesis(
            "positions-rounded",
            proposal.site,
            moved(proposal, (_, position) => roundTo(position, dtype)),
            {
              parameters: { dtype },
              statement: `RoPE positions pass through ${dtype}, which is exact only up to ${exactUpTo}: later tokens share angles`,
            },
          ),
        ),
  },
  {
    causes: ["rope-table-clamped", "rope-table-wrapped"],
    stage: "large",
    appliesTo: isRope,
    rewrites(proposal) {
      const last = lastPosition(proposal);
      const limits: number[] = [];
      for (let limit = 2; limit <= Math.min(last, 64); limit++) limits.push(limit);
      for (let limit = 128; limit <= last; limit *= 2) limits.push(limit);
      return limits.flatMap((limit) => [
        hypothesis(
          "rope-table-clamped",
          proposal.site,
          moved(proposal, (_, position) => Math.min(position, limit - 1)),
          {
            parameters: { entries: limit },
            statement: `the RoPE table has ${limit} positions; later tokens use its last one`,
          },
        ),
        hypothesis(
          "rope-table-wrapped",
          proposal.site,
          moved(proposal, (_, position) => position % limit),
          { parameters: { entries: limit }, statement: `RoPE positions start over after ${limit}` },
        ),
      ]);
    },
  },
];

/** An offset with its sign. */
export function signed(offset: number): string {
  return `${offset > 0 ? "+" : ""}${offset}`;
}
