import { InputError } from "../../tensor/errors.js";
import { fields, turnedFields } from "./code-rows.js";
import { misreading, scaleMisreadings, zeroPointMisreadings } from "./misreadings.js";
import type { Reading } from "./scaled-weight.js";
import type { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

/** Output, of the eight of a word, that lies in each 4-bit field from the lowest on. AutoAWQ's GEMM packing. */
const order = [0, 2, 4, 6, 1, 3, 5, 7] as const;
const fieldOf = order.map((_, output) => order.indexOf(output as (typeof order)[number]));
const half = (output: number) => output - (output % 8) + order[fieldOf[output % 8]! ^ 1]!;
const inSequence = (output: number) => output - (output % 8) + order[output % 8]!;

/**
 * 4-bit codes of [inputs, outputs], eight outputs per 32-bit word in an order of its own, scales and zero points per group
 * of inputs. Reference: AutoAWQ's GEMM version, which multiplies in the scale's type. https://github.com/casper-hansen/AutoAWQ
 */
export const awq: WeightFormat = {
  id: "awq",
  title: "AWQ",
  methods: ["awq"],
  parts: [".qweight", ".qzeros", ".scales"],
  parameter: ".weight",
  claims: (found, method) => found.get(".qweight") === "int32" && method === "awq",
  layout(stored) {
    expectGemm(stored);
    const { shape } = stored.typed(".qweight", ["int32"], 2);
    const [columns, words] = shape as [number, number];
    const rows = words * 8;
    const groups = groupCount(stored, columns);
    const scale = stored.shaped(".scales", ["float16", "bfloat16", "float32"], [groups, rows]);
    const hasZeros = stored.config.zero_point !== false || stored.has(".qzeros");
    if (hasZeros) stored.shaped(".qzeros", ["int32"], [groups, words]);
    const grid = { bands: rows, groups };
    return {
      shape: [rows, columns],
      bits: 4,
      numbers: Float64Array.from({ length: 16 }, (_, code) => (hasZeros ? code : code - 8)),
      bandRows: 1,
      groupColumns: groups === 1 ? columns : stored.config.group_size!,
      arithmetic: scale.dtype,
      dtype: scale.dtype,
      operands: [],
      misreadings: [
        ...scaleMisreadings("scales", grid),
        ...(hasZeros ? zeroPointMisreadings("qzeros", grid) : []),
        misreading(
          {
            cause: "weight-packing-order",
            transform: "T1",
            statement:
              "the eight outputs of every word of qweight and qzeros are taken in sequence, not in AWQ's order",
            parameters: { of: "qweight" },
          },
          reordered(inSequence),
        ),
        misreading(
          {
            cause: "weight-packing-order",
            transform: "T1",
            statement: "the eight outputs of every word of qweight, but not of qzeros, are taken in sequence",
            parameters: { of: "qweight alone" },
          },
          { codeRow: inSequence },
        ),
        misreading(
          {
            cause: "weight-halves-exchanged",
            transform: "T1",
            statement: "the two 4-bit halves of every byte of qweight are exchanged",
            parameters: { of: "qweight" },
          },
          { codeRow: half },
        ),
      ],
      load: () => ({
        codes: turnedFields(stored.words(".qweight"), columns, words, order),
        scales: { values: stored.values(".scales"), bandStride: 1, groupStride: rows },
        zeros: hasZeros
          ? { values: fields(stored.words(".qzeros"), 4, order), bandStride: 1, groupStride: rows }
          : undefined,
      }),
    };
  },
};

/** Codes and zero points of another output. */
function reordered(from: (output: number) => number): Reading {
  return {
    codeRow: from,
    tables: (tables) => {
      const { zeros } = tables;
      if (!zeros) return tables;
      const { values, groupStride } = zeros;
      const moved = values.map((_, i) => values[i - (i % groupStride) + from(i % groupStride)]!);
      return { ...tables, zeros: { ...zeros, values: moved } };
    },
  };
}

function expectGemm({ config }: StoredWeight): void {
  if (config.bits !== 4) throw new InputError(`${config.origin}.bits: expected 4 for AWQ, found ${config.bits}`);
  const version = (config.version ?? "gemm").toLowerCase();
  if (version !== "gemm") {
    throw new InputError(`${config.origin}.version: expected "gemm", found "${version}"`);
  }
}

/** Groups of inputs that the config's group size makes. @throws InputError when it does not divide the inputs. */
export function groupCount({ config, name }: StoredWeight, columns: number): number {
  const size = config.group_size;
  if (size === -1) return 1;
  if (!size || Math.ceil(columns / size) * size !== columns) {
    throw new InputError(
      `${config.origin}.group_size: expected a divisor of the ${columns} inputs of "${name}", found ${size}`,
    );
  }
  return columns / size;
}
