import type { GraphNode } from "../../spec/graph.js";
import type { Block, Op, OpContext } from "../../spec/op.js";
import { emptyBlock, raiseJump } from "../../spec/op.js";
import { type ClampedSwigluAttributes, clampedSwiglu } from "../../spec/ops/clamped-swiglu.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { mlpCauses } from "./mlp.js";
import { freshName, hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Gate and up of one matrix, and gates with limits. */
export const gatedBranchCauses = {
  "gate-up-interleaved": {
    kind: "seam",
    transform: "T1",
    legend: "Gate and up are taken as halves of a product in which they alternate, or the other way round.",
    hiddenBy: "never",
    confusedWith: ["gate-up-swapped", "activation-wrong"],
  },
  "gate-limit-missing": {
    kind: "parameter",
    transform: "T10",
    legend: "Gate and up are not cut off at the model's limit.",
    hiddenBy: "numbers within the limit",
    confusedWith: ["clamped", "activation-wrong"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...gatedBranchCauses, ...mlpCauses });
const isClamped = ofKind("clamped-swiglu");

export const gatedBranchSearches: readonly Search[] = [
  {
    causes: ["gate-up-swapped"],
    stage: "large",
    appliesTo: isClamped,
    rewrites: ({ site }) => [
      hypothesis("gate-up-swapped", site, [replaced(site, { inputs: [...site.inputs].reverse() })], {
        statement: "gate and up are exchanged: the activation is applied to up",
      }),
    ],
  },
  {
    causes: ["gate-limit-missing", "activation-wrong"],
    stage: "large",
    appliesTo: isClamped,
    rewrites({ site }) {
      const own = site.op.attributes as unknown as ClampedSwigluAttributes;
      const of = (change: Partial<ClampedSwigluAttributes>) => [
        replaced(site, { op: clampedSwiglu({ ...own, ...change }) }),
      ];
      return [
        hypothesis("gate-limit-missing", site, of({ limit: undefined }), {
          statement: `gate and up are not cut off at ${own.limit}`,
        }),
        hypothesis("activation-wrong", site, of({ alpha: 1 }), {
          parameters: { alpha: 1, expected: own.alpha },
          statement: `the gate's sigmoid is as steep as SiLU's, not ${own.alpha} times`,
        }),
        hypothesis("activation-wrong", site, of({ shift: 0 }), {
          parameters: { shift: 0, expected: 1 },
          statement: "up is not shifted by 1",
        }),
      ];
    },
  },
  {
    causes: ["gate-up-interleaved"],
    stage: "large",
    appliesTo: ({ site, investigation }) => sourcesOf(site, (name) => investigation.graph.find(name)) !== undefined,
    rewrites: regrouped,
  },
];

/** The products that gate and up come from, and the node that reads the gate. */
function sourcesOf(site: GraphNode, find: (name: string) => GraphNode | undefined) {
  if (site.op.kind === "clamped-swiglu") return { reader: site, gate: site.inputs[0]!, up: site.inputs[1]! };
  if (site.op.kind !== "multiply") return undefined;
  const reader = find(site.inputs[0]!);
  return reader?.op.kind === "activation" ? { reader, gate: reader.inputs[0]!, up: site.inputs[1]! } : undefined;
}

/** Gate and up as the halves of a product of pairs, and as the pairs of one of halves. */
function regrouped({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const { reader, gate, up } = sourcesOf(site, (name) => graph.find(name))!;
  const gateNode = graph.node(gate);
  const width = widthOf(gateNode);
  return ([true, false] as const).map((pairs) => {
    const part = (second: boolean): GraphNode => ({
      ...gateNode,
      name: freshName(graph, `${second ? up : gate} regrouped`),
      op: regroup(width, second, pairs),
      inputs: [gate, up],
    });
    const [first, second] = [part(false), part(true)];
    const nodes =
      reader === site
        ? [replaced(site, { inputs: [first.name, second.name] })]
        : [replaced(reader, { inputs: [first.name] }), replaced(site, { inputs: [reader.name, second.name] })];
    return hypothesis("gate-up-interleaved", site, [first, second, ...nodes], {
      parameters: { taken: pairs ? "alternating" : "halves" },
      statement: pairs
        ? "gate and up are taken from alternating channels where they lie side by side"
        : "gate and up are taken as halves where their channels alternate",
    });
  });
}

/** Channels of one expert's slot, or of the whole value. */
function widthOf({ op, columns }: GraphNode): number {
  return op.kind === "expert-linear" ? Number(op.attributes.width) : columns;
}

/**
 * Gate or up out of both: from pairs (gate, up) of channels of [gate | up], or from halves of alternating channels. Only
 * another name of what is stored already.
 */
function regroup(width: number, second: boolean, pairs: boolean): Op {
  return {
    kind: "identity",
    attributes: { regrouped: pairs ? "alternating" : "halves" },
    evaluate(context, rows, columns) {
      const from = Array.from(columns, (column) => {
        const slot = Math.floor(column / width) * width;
        const c = column % width;
        const place = pairs ? 2 * c + Number(second) : c + (second ? width : 0);
        return pairs
          ? { input: Number(place >= width), column: slot + (place % width) }
          : { input: place % 2, column: slot + Math.floor(place / 2) };
      });
      return gather(context, rows, from);
    },
  };
}

function gather(context: OpContext, rows: Int32Array, from: readonly { input: number; column: number }[]): Block {
  const out = emptyBlock(rows.length * from.length, context.noise);
  for (const input of [0, 1]) {
    const wanted = Int32Array.from(new Set(from.filter((f) => f.input === input).map(({ column }) => column)));
    if (wanted.length === 0) continue;
    const place = new Map(Array.from(wanted, (column, i) => [column, i]));
    const block = context.input(input, rows, wanted);
    for (let r = 0; r < rows.length; r++) {
      from.forEach((f, c) => {
        if (f.input !== input) return;
        const i = r * wanted.length + place.get(f.column)!;
        const at = r * from.length + c;
        out.value[at] = block.value[i]!;
        if (context.noise) out.variance[at] = block.variance[i]!;
        if (block.jump) raiseJump(out, at, block.jump[i]!);
        if (block.range?.[i]) {
          out.range ??= new Uint8Array(out.value.length);
          out.range[at] = block.range[i]!;
        }
      });
    }
  }
  return out;
}
