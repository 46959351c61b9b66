import type { CaseInput, CaseRow, UnitCase } from "../../src/repro/unit-case.js";

/** Kernels written out from their definitions, that read nothing but what a repro's folder holds. */
export const kernels: Record<string, (made: UnitCase) => Float64Array> = {
  product({ rows, columns, inputs, parameters }) {
    const [x] = inputs as [CaseInput];
    const weight = parameters.find(({ name }) => name.endsWith(".weight"))!;
    const bias = parameters.find(({ name }) => name.endsWith(".bias"))?.values?.values;
    return filled(rows, columns, (row, column) => {
      const [a, w] = [rowOf(x, row), weight.values!.values];
      const at = weight.rows.indexOf(column) * a.length;
      return a.reduce((sum, value, k) => sum + value * w[at + k]!, bias?.[column] ?? 0);
    });
  },

  norm({ rows, columns, inputs, parameters, ops }) {
    const { epsilon, width } = ops.at(-1)!.attributes as { epsilon: number; width?: number };
    const weight = parameters[0]!.values!.values;
    return filled(rows, columns, (row, column) => {
      const whole = rowOf(inputs[0]!, row);
      const size = width ?? whole.length;
      const first = Math.floor(column / size) * size;
      const part = whole.subarray(first, first + size);
      const mean = part.reduce((sum, x) => sum + x * x, 0) / size;
      return (whole[column]! / Math.sqrt(mean + epsilon)) * weight[column % size]!;
    });
  },

  rope({ rows, columns, inputs, ops }) {
    const attributes = ops.at(-1)!.attributes as { headDim: number; inverseFrequencies: ArrayLike<number> };
    const { headDim, inverseFrequencies } = attributes;
    return filled(rows, columns, (row, column) => {
      const x = rowOf(inputs[0]!, row);
      const channel = column % headDim;
      const half = headDim / 2;
      const angle = row.position * inverseFrequencies[channel % half]!;
      const [other, sign] = channel < half ? [column + half, -1] : [column - half, 1];
      return x[column]! * Math.cos(angle) + sign * x[other]! * Math.sin(angle);
    });
  },

  attention({ rows, columns, inputs, ops }) {
    const attributes = ops.at(-1)!.attributes as Record<"heads" | "keyValueHeads" | "headDim" | "scale", number>;
    const { heads, keyValueHeads, headDim, scale } = attributes;
    const [queries, keys, values] = inputs as [CaseInput, CaseInput, CaseInput];
    return filled(rows, columns, (row, column) => {
      const head = Math.floor(column / headDim);
      const first = Math.floor((head * keyValueHeads) / heads) * headDim;
      const q = rowOf(queries, row).subarray(head * headDim, (head + 1) * headDim);
      const seen = keys.rows.filter(({ sequence, position }) => sequence === row.sequence && position <= row.position);
      const scores = seen.map((key) => {
        const k = rowOf(keys, key);
        return q.reduce((sum, x, c) => sum + x * k[first + c]!, 0) * scale;
      });
      const exponentials = scores.map((score) => Math.exp(score - Math.max(...scores)));
      const total = exponentials.reduce((sum, e) => sum + e, 0);
      const at = first + (column % headDim);
      return seen.reduce((sum, key, i) => sum + (exponentials[i]! / total) * rowOf(values, key)[at]!, 0);
    });
  },
};

function filled(rows: readonly CaseRow[], columns: readonly number[], value: (row: CaseRow, column: number) => number) {
  return Float64Array.from(rows.flatMap((row) => columns.map((column) => value(row, column))));
}

/** The row of an input that holds a token. */
function rowOf({ rows, values }: CaseInput, { sequence, position }: CaseRow): Float64Array {
  const at = rows.findIndex((row) => row.sequence === sequence && row.position === position);
  const width = values.shape[1]!;
  return values.values.subarray(at * width, (at + 1) * width);
}
