import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { type DType, decode, encode, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { readsWrongly } from "./misread.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { replaced, transformed } from "./transform.js";

/** Right bits under a wrong type. */
export const bitCauses = {
  "dtype-bits": {
    kind: "seam",
    transform: "T8",
    legend: "The bits of one type are read as another: of a weight, a value, an operand or a cache.",
    hiddenBy: "zeros",
    confusedWith: ["scaled", "cache-scale", "weight-quantised"],
    report: ["vllm-project/vllm#54338", "bfloat16 bits were stored in a cache declared float16"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(bitCauses);

export const bitSearches: readonly Search[] = [
  {
    causes: ["dtype-bits"],
    stage: "named",
    appliesTo: ({ site, investigation }) => site.op.kind === "linear" && investigation.precision.store !== "float32",
    rewrites: weightBits,
  },
  { causes: ["dtype-bits"], stage: "named", appliesTo: isRecorded, rewrites: valueBits },
  {
    causes: ["dtype-bits"],
    stage: "named",
    appliesTo: readsWrongly,
    rewrites(proposal) {
      const { graph } = proposal.investigation;
      return proposal.site.inputs.flatMap((name, index) => operandBits(proposal, graph.node(name), index));
    },
  },
];

/** Weight bytes of one 16-bit type read as the other. */
function weightBits({ site }: Proposal): Hypothesis[] {
  const a = site.op.attributes as unknown as LinearAttributes;
  return (["float16", "bfloat16"] as const).map((as) => {
    const from = as === "float16" ? "bfloat16" : "float16";
    const op: Op = {
      kind: "linear",
      attributes: { ...a, bits: as },
      evaluate(context, rows, columns) {
        const { parameters } = context;
        const reread = {
          shape: parameters.shape.bind(parameters),
          names: () => parameters.names(),
          rows: (name: string, first: number, count: number) => {
            const values = parameters.rows(name, first, count);
            return name === a.weight ? decode(encode(values, from), as) : values;
          },
        };
        return linear(a).evaluate({ ...context, parameters: reread }, rows, columns);
      },
    };
    return hypothesis("dtype-bits", site, [replaced(site, { op })], {
      kind: "parameter",
      parameters: { stored: from, read: as, of: a.weight },
      statement: `the ${from} bits of ${a.weight} are read as ${as}`,
    });
  });
}

/** The bits of one 16-bit type read as the other. */
function valueBits({ site, investigation }: Proposal): Hypothesis[] {
  const dtype = investigation.observations.dtype(site.name);
  if (dtype !== "bfloat16" && dtype !== "float16" && dtype !== "float32") return [];
  const pairs: [DType, DType][] = [
    ["bfloat16", "float16"],
    ["float16", "bfloat16"],
  ];
  return pairs.map(([written, read]) =>
    hypothesis("dtype-bits", site, [bitsNode(site, written, read)], {
      parameters: { written, read },
      statement: `${written} bits are read as ${read}`,
    }),
  );
}

function bitsNode(site: GraphNode, written: DType, read: DType): GraphNode {
  const format = floatFormat(written)!;
  const reread = (values: Float64Array) => decode(encode(values, written), read);
  const op = transformed(site.op, { written, read }, (block) => {
    const value = reread(block.value);
    const sigma = block.variance.map((v, i) => Math.sqrt(v) + unitInLastPlace(block.value[i]!, format));
    const above = reread(block.value.map((x, i) => x + sigma[i]!));
    const below = reread(block.value.map((x, i) => x - sigma[i]!));
    return { value, variance: value.map((_, i) => ((above[i]! - below[i]!) / 2) ** 2) };
  });
  return replaced(site, { op });
}

/** A 16-bit operand whose bits the consumer takes for the other 16-bit type. */
function operandBits({ site, investigation }: Proposal, operand: GraphNode, index: number): Hypothesis[] {
  const { precision } = investigation;
  const written = precision.store;
  if (written !== "bfloat16" && written !== "float16") return [];
  const read = written === "bfloat16" ? "float16" : "bfloat16";
  const op: GraphNode["op"] = {
    kind: "identity",
    attributes: { written, read },
    evaluate(context, rows, columns) {
      const block = context.input(0, rows, columns);
      const reread = (values: Float64Array) => decode(encode(values, written), read);
      const value = reread(block.value);
      if (block.variance.every((v) => !(v > 0))) return { value, variance: new Float64Array(value.length) };
      // What was not recorded may have been another number nearby, which means another one under the other type.
      const sigma = block.variance.map((v, i) =>
        v > 0 ? Math.sqrt(v) + unitInLastPlace(block.value[i]!, floatFormat(written)!) : 0,
      );
      const [above, below] = [1, -1].map((sign) => reread(block.value.map((x, i) => x + sign * sigma[i]!)));
      return { value, variance: value.map((_, i) => ((above![i]! - below![i]!) / 2) ** 2) };
    },
  };
  const view: GraphNode = { ...operand, name: `${operand.name}.as_read`, op, inputs: [operand.name] };
  const changed = site.inputs.map((input, i) => (i === index ? view.name : input));
  return [
    hypothesis("dtype-bits", site, [view, replaced(site, { inputs: changed })], {
      parameters: { operand: lastName(operand.name), written, read },
      statement: `${lastName(operand.name)} is written as ${written} and its bits are read as ${read}`,
    }),
  ];
}
