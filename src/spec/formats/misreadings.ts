import type { LayoutMisreading, Reading, ScaleTable, WeightTables } from "./scaled-weight.js";

/** Misreadings that formats share; each format's file says which of them can happen to it, and adds its own. */

type Described = Pick<LayoutMisreading, "cause" | "statement"> & Partial<LayoutMisreading>;

/** A misreading of one weight, of class T9 (quantisation parameters) unless it says otherwise. */
export function misreading(described: Described, reading: Reading): LayoutMisreading {
  return { transform: "T9", parameters: {}, ...described, reading };
}

/** Bands of rows and groups of columns that have a scale each. */
export interface Grid {
  readonly bands: number;
  readonly groups: number;
}

const inScales = (change: (table: ScaleTable) => ScaleTable): Reading => ({
  tables: (tables) => ({ ...tables, scales: change(tables.scales) }),
});

/** A scale left out, inverted, taken from the transposed grid, or of the next tile. */
export function scaleMisreadings(scale: string, grid: Grid): LayoutMisreading[] {
  const { bands, groups } = grid;
  const out = [
    misreading(
      {
        cause: "weight-scale-missed",
        statement: `the weight is not multiplied by its ${scale}`,
        parameters: { of: scale },
      },
      { scale: () => 1 },
    ),
    misreading(
      {
        cause: "weight-scale-inverted",
        statement: `the weight is divided by its ${scale} instead of multiplied`,
        parameters: { of: scale },
      },
      { scale: (s) => 1 / s },
    ),
  ];
  if (bands > 1 && groups > 1) {
    out.push(
      misreading(
        {
          cause: "weight-scale-transposed",
          transform: "T1",
          statement: `${scale} is read as if it lay transposed`,
          parameters: { of: scale },
        },
        inScales((table) => turned(table, grid)),
      ),
    );
  }
  const shifts = [
    ...(groups > 1 ? ([["input group", "groupStride"]] as const) : []),
    ...(bands > 1 ? ([["output block", "bandStride"]] as const) : []),
  ];
  for (const [title, stride] of shifts) {
    for (const by of [1, -1]) {
      const which = by > 0 ? "next" : "previous";
      out.push(
        misreading(
          {
            cause: "weight-scale-shifted",
            transform: "T3",
            statement: `every ${title} takes the ${scale} of the ${which} one`,
            parameters: { of: scale, axis: title, by },
          },
          inScales((table) => ({ ...table, shift: by * table[stride] })),
        ),
      );
    }
  }
  return out;
}

/** The table's bytes read with the axes exchanged. */
function turned({ values, groupStride }: ScaleTable, { bands, groups }: Grid): ScaleTable {
  const byBands = groupStride === 1;
  return byBands ? { values, bandStride: 1, groupStride: bands } : { values, bandStride: groups, groupStride: 1 };
}

/** A factor of the whole weight left out, or used the other way round. */
export function globalScaleMisreadings(scale: string): LayoutMisreading[] {
  const inGlobal = (change: (known: NonNullable<WeightTables["global"]>) => WeightTables["global"]): Reading => ({
    tables: (tables) => ({ ...tables, global: tables.global && change(tables.global) }),
  });
  return [
    misreading(
      { cause: "weight-scale-missed", statement: `${scale} is left out`, parameters: { of: scale } },
      inGlobal(() => undefined),
    ),
    misreading(
      {
        cause: "weight-scale-inverted",
        statement: `${scale} is used the other way round: multiplied where it divides, or the reverse`,
        parameters: { of: scale },
      },
      inGlobal(({ value, divides }) => ({ value, divides: !divides })),
    ),
  ];
}

/** A zero point left out, or off by one level. */
export function zeroPointMisreadings(zero: string, grid: Grid): LayoutMisreading[] {
  const out = [
    misreading(
      { cause: "weight-zero-point-missed", statement: `${zero} is not taken away`, parameters: { of: zero } },
      { zero: () => 0 },
    ),
    ...[1, -1].map((by) =>
      misreading(
        {
          cause: "weight-zero-point-shifted",
          statement: `${zero} is taken ${by > 0 ? "one level too high" : "one level too low"}: another convention of what is stored`,
          parameters: { of: zero, by },
        },
        { zero: (z) => z + by },
      ),
    ),
  ];
  if (grid.groups > 1) {
    out.push(
      misreading(
        {
          cause: "weight-scale-shifted",
          transform: "T3",
          statement: `every input group takes the ${zero} of the next one`,
          parameters: { of: zero, axis: "input group", by: 1 },
        },
        {
          tables: (tables) => ({
            ...tables,
            zeros: tables.zeros && { ...tables.zeros, shift: tables.zeros.groupStride },
          }),
        },
      ),
    );
  }
  return out;
}

/** The two 4-bit halves of every byte exchanged, where neighbours of a byte are neighbouring inputs. */
export function halvesExchanged(part: string): LayoutMisreading {
  return misreading(
    {
      cause: "weight-halves-exchanged",
      transform: "T1",
      statement: `the two 4-bit halves of every byte of ${part} are exchanged`,
      parameters: { of: part },
    },
    { codeColumn: (column) => column ^ 1 },
  );
}
