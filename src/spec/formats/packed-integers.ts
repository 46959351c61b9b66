import { InputError } from "../../tensor/errors.js";
import { fields, storedRows } from "./code-rows.js";
import { declaredNumbers } from "./config.js";
import { halvesExchanged, misreading, scaleMisreadings, zeroPointMisreadings } from "./misreadings.js";
import { operandsOf } from "./operands.js";
import { tileOf } from "./scale-tiles.js";
import type { WeightTables } from "./scaled-weight.js";
import type { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

const packed = ".weight_packed";
const scalePart = ".weight_scale";
const zeroPart = ".weight_zero_point";
const orderPart = ".weight_g_idx";

/**
 * Integers of 4 or 8 bits in 32-bit words along the inputs, the lowest bits first, each 2^(bits-1) higher than what it means;
 * zero points are packed so along the outputs. Reference: compressed-tensors' `pack-quantized`, which multiplies in the
 * scale's type. https://github.com/vllm-project/compressed-tensors
 */
export const packedIntegers: WeightFormat = {
  id: "packed-integers",
  title: "packed integers in groups",
  methods: ["compressed-tensors"],
  parts: [packed, scalePart, zeroPart, orderPart, ".weight_shape", ".input_scale"],
  parameter: ".weight",
  claims: (found) => found.get(packed) === "int32" && found.has(".weight_shape"),
  layout(stored) {
    const { name, shape: words } = stored.typed(packed, ["int32"], 2);
    stored.shaped(".weight_shape", ["int64", "int32"], [2]);
    const [rows, columns] = Array.from(stored.values(".weight_shape")) as [number, number];
    const bits = bitsOf(stored, rows, columns, words);
    const scale = stored.typed(scalePart, ["float32", "bfloat16", "float16"]);
    const tile = tileOf(stored, scalePart, [rows, columns]);
    const offset = 2 ** (bits - 1);
    const zeroShape = [Math.ceil((tile.bands * bits) / 32), tile.groups];
    if (stored.has(zeroPart)) stored.shaped(zeroPart, ["int32"], zeroShape);
    const groupOf = stored.has(orderPart) ? groupsOf(stored, orderPart, columns, tile.groups) : undefined;
    return {
      shape: [rows, columns],
      bits,
      numbers: Float64Array.from({ length: 2 ** bits }, (_, code) => code - offset),
      bandRows: tile.rows,
      groupColumns: tile.columns,
      arithmetic: scale.dtype,
      dtype: scale.dtype,
      operands: operandsOf(stored),
      misreadings: [
        ...scaleMisreadings("weight_scale", tile),
        ...(stored.has(zeroPart) ? zeroPointMisreadings("weight_zero_point", tile) : []),
        ...(bits === 4 ? [halvesExchanged("weight_packed")] : []),
        ...(groupOf ? [orderIgnored("weight_g_idx")] : []),
        misreading(
          {
            cause: "weight-zero-point-missed",
            statement: `weight_packed is read as numbers from 0 up, without taking ${offset} away`,
            parameters: { of: "weight_packed" },
          },
          { numbers: (numbers) => numbers.map((x) => x + offset) },
        ),
      ],
      load: () => ({
        codes: storedRows(words[1]! * 4, (first, count) => stored.checkpoint.bytes(name, first, count)),
        scales: { values: stored.values(scalePart), bandStride: tile.groups, groupStride: 1 },
        zeros: stored.has(zeroPart) ? zerosOf(stored, bits, tile.bands, tile.groups) : undefined,
        groupOf,
      }),
    };
  },
};

/** Bits per number: those that the width of the words and the config agree on. */
function bitsOf(stored: StoredWeight, rows: number, columns: number, words: readonly number[]): 4 | 8 {
  const isSize = (n: number) => Number.isSafeInteger(n) && n > 0 && n < 2 ** 31;
  if (!isSize(rows) || !isSize(columns)) {
    throw stored.fault(".weight_shape", "numbers of outputs and inputs", `[${rows}, ${columns}]`);
  }
  const bits = ([4, 8] as const).find((n) => words.join() === `${rows},${Math.ceil((columns * n) / 32)}`);
  if (!bits) {
    const ways = [4, 8].map((n) => `[${rows}, ${Math.ceil((columns * n) / 32)}]`);
    throw stored.fault(packed, `shape ${ways.join(" or ")}, as weight_shape says`, `[${words.join(", ")}]`);
  }
  const declared = declaredNumbers(stored.config, "int");
  if (declared.length > 0 && !declared.some(({ num_bits }) => num_bits === bits)) {
    const { config } = stored;
    const said = declared.map(({ num_bits }) => num_bits).join(" or ");
    throw new InputError(
      `${config.origin}.config_groups: num_bits: "${stored.name}" has ${bits}, expected so, found ${said}`,
    );
  }
  return bits;
}

/** Zero points [bands, groups] out of words that are packed along the bands. */
function zerosOf(stored: StoredWeight, bits: number, bands: number, groups: number): WeightTables["zeros"] {
  const words = stored.words(zeroPart);
  const each = 32 / bits;
  const unpacked = fields(words, bits);
  const values = new Float64Array(bands * groups);
  for (let b = 0; b < bands; b++) {
    for (let g = 0; g < groups; g++) {
      const word = Math.floor(b / each) * groups + g;
      values[b * groups + g] = unpacked[word * each + (b % each)]! - 2 ** (bits - 1);
    }
  }
  return { values, bandStride: groups, groupStride: 1 };
}

/** The group of every input where they are not side by side. @throws InputError when a group is none of the scales'. */
export function groupsOf(stored: StoredWeight, part: string, columns: number, groups: number): Int32Array {
  stored.shaped(part, ["int32", "int64"], [columns]);
  const values = stored.values(part);
  const wrong = values.find((group) => !(Number.isInteger(group) && group >= 0 && group < groups));
  if (wrong !== undefined) throw stored.fault(part, `groups from 0 to ${groups - 1}`, String(wrong));
  return Int32Array.from(values);
}

/** Groups taken side by side although the inputs were reordered. */
export function orderIgnored(part: string) {
  return misreading(
    {
      cause: "weight-group-order",
      transform: "T3",
      statement: `${part} is ignored: inputs take their scales in the order in which they lie`,
      parameters: { of: part },
    },
    { tables: ({ groupOf: _, ...tables }) => tables },
  );
}
