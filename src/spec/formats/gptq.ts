import { InputError } from "../../tensor/errors.js";
import { groupCount } from "./awq.js";
import { fields, turnedWords } from "./code-rows.js";
import { misreading, scaleMisreadings, zeroPointMisreadings } from "./misreadings.js";
import { groupsOf, orderIgnored } from "./packed-integers.js";
import type { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

/** AWQ's order of eight fields, for code that takes GPTQ's words for AWQ's. */
const awqOrder = [0, 2, 4, 6, 1, 3, 5, 7] as const;

/**
 * Codes of [inputs, outputs] of 2, 4 or 8 bits, packed along the inputs, the lowest bits first; zero points are packed along
 * the outputs, stored one too low in version 1; `g_idx` gives the group of each input. Reference: AutoGPTQ and GPTQModel,
 * which multiply in the scale's type. https://github.com/ModelCloud/GPTQModel
 */
export const gptq: WeightFormat = {
  id: "gptq",
  title: "GPTQ",
  methods: ["gptq"],
  parts: [".qweight", ".qzeros", ".scales", ".g_idx"],
  parameter: ".weight",
  claims: (found, method) => found.get(".qweight") === "int32" && method === "gptq",
  layout(stored) {
    const bits = bitsOf(stored);
    const each = 32 / bits;
    const { shape } = stored.typed(".qweight", ["int32"], 2);
    const [height, rows] = shape as [number, number];
    const columns = height * each;
    const groups = groupCount(stored, columns);
    const scale = stored.shaped(".scales", ["float16", "bfloat16", "float32"], [groups, rows]);
    stored.shaped(".qzeros", ["int32"], [groups, Math.ceil(rows / each)]);
    if (stored.config.desc_act) stored.entry(".g_idx");
    const groupOf = stored.has(".g_idx") ? groupsOf(stored, ".g_idx", columns, groups) : undefined;
    const lower = zerosAreLower(stored) ? 1 : 0;
    const mask = 2 ** bits - 1;
    const grid = { bands: rows, groups };
    const zeroWidth = Math.ceil(rows / each) * each;
    return {
      shape: [rows, columns],
      bits,
      numbers: Float64Array.from({ length: 2 ** bits }, (_, code) => code),
      bandRows: 1,
      groupColumns: groups === 1 ? columns : stored.config.group_size!,
      arithmetic: scale.dtype,
      dtype: scale.dtype,
      operands: [],
      misreadings: [
        ...scaleMisreadings("scales", grid),
        ...zeroPointMisreadings("qzeros", grid),
        ...(groupOf ? [orderIgnored("g_idx")] : []),
        ...(bits === 4
          ? [
              misreading(
                {
                  cause: "weight-packing-order",
                  transform: "T1",
                  statement: "the eight inputs of every word of qweight are taken in AWQ's order, not in sequence",
                  parameters: { of: "qweight" },
                },
                { codeColumn: (input) => input - (input % 8) + awqOrder.indexOf((input % 8) as 0) },
              ),
              misreading(
                {
                  cause: "weight-halves-exchanged",
                  transform: "T1",
                  statement: "the two 4-bit halves of every byte of qweight are exchanged",
                  parameters: { of: "qweight" },
                },
                { codeColumn: (input) => input ^ 1 },
              ),
            ]
          : []),
      ],
      load: () => ({
        codes: turnedWords(stored.words(".qweight"), height, rows),
        scales: { values: stored.values(".scales"), bandStride: 1, groupStride: rows },
        zeros: {
          values: fields(stored.words(".qzeros"), bits).map((zero) => (zero + lower) & mask),
          bandStride: 1,
          groupStride: zeroWidth,
        },
        groupOf,
      }),
    };
  },
};

function bitsOf({ config }: StoredWeight): number {
  const { bits } = config;
  if (bits !== 2 && bits !== 4 && bits !== 8) {
    throw new InputError(`${config.origin}.bits: expected 2, 4 or 8 for GPTQ, found ${bits}`);
  }
  return bits;
}

/** Version 1 stores zero points one lower than they are. */
function zerosAreLower({ config }: StoredWeight): boolean {
  const version = config.checkpoint_format ?? "gptq";
  if (version === "gptq") return true;
  if (version === "gptq_v2") return false;
  throw new InputError(`${config.origin}.checkpoint_format: expected "gptq" or "gptq_v2", found "${version}"`);
}
