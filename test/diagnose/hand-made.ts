import type { Comparison } from "../../src/diagnose/bits/statistics.js";
import { type CauseId, classed } from "../../src/diagnose/causes/catalogue.js";
import type { Hypothesis } from "../../src/diagnose/causes/hypothesis.js";
import { UnitCheck } from "../../src/diagnose/check/unit-check.js";
import type { Cause } from "../../src/diagnose/explain/cause.js";
import type { ExplainedFinding } from "../../src/diagnose/explain/explainer.js";
import type { Explanation } from "../../src/diagnose/explain/explanation.js";
import type { GraphNode } from "../../src/spec/graph.js";
import { identity } from "../../src/spec/ops/identity.js";
import { outsideLayers } from "../../src/spec/site.js";

/** A value of so many columns that nothing is known of. */
export function namedValue(columns: number, more: Partial<GraphNode> = {}): GraphNode {
  return { ...outsideLayers("value", "hidden"), op: identity(), inputs: [], columns, ...more };
}

/** Elements of which those are wrong, by 100 times their noise. */
export function comparisonOf(rows: number, columns: number, isWrong: (row: number, column: number) => boolean) {
  const z = Float64Array.from({ length: rows * columns }, (_, i) =>
    isWrong(Math.floor(i / columns), i % columns) ? 100 : 0,
  );
  const comparison: Comparison = {
    rows: Int32Array.from({ length: rows }, (_, row) => row),
    columns: Int32Array.from({ length: columns }, (_, column) => column),
    expected: new Float64Array(z.length),
    observed: z.slice(),
    noise: new Float64Array(z.length).fill(1),
    z,
  };
  return comparison;
}

export function hypothesisOf(cause: CauseId, more: Partial<Hypothesis> = {}): Hypothesis {
  return {
    ...classed(cause),
    site: "value",
    parameters: {},
    replacements: [],
    fitted: 0,
    statement: "",
    group: cause,
    ...more,
  };
}

const right = { checked: 100, total: 100, rmsZ: 1, maxZ: 3, nonFinite: 0, distinctRows: 10 };

export function explanationOf(cause: CauseId, more: Partial<Explanation> = {}): Explanation {
  return { hypothesis: hypothesisOf(cause), statistics: right, left: 1, matched: false, bits: undefined, ...more };
}

/** A unit so far beyond the limits. */
export function checkOf(name: string, excess: number): UnitCheck {
  const comparison = comparisonOf(2, 2, () => excess > 1);
  return new UnitCheck(
    {
      node: namedValue(2, { name }),
      recipe: undefined,
      bits: undefined,
      matched: false,
      statistics: right,
      magnitude: { largest: 1, zeros: false, constant: false, notANumber: 0, infinite: 0 },
      excess,
      coverage: { compared: 4, summed: 0, of: 4 },
    },
    () => comparison,
  );
}

/** A failing unit that these causes explain. */
export function findingOf(name: string, causes: readonly CauseId[]): ExplainedFinding {
  return { check: checkOf(name, 10), explanations: causes.map((cause) => explanationOf(cause)), nearest: [] };
}

/** A cause of a verdict. */
export function causeOf(cause: CauseId, more: Partial<Cause> = {}): Cause {
  return {
    ...classed(cause),
    layers: [],
    units: ["value"],
    steps: [0],
    extent: { share: 1 },
    parameters: {},
    statement: "something is wrong",
    evidence: { rmsZ: null, rmsZExplained: null, samples: 1, runnerUp: null },
    alternatives: [],
    ...more,
  };
}
