import { expect, it } from "vitest";
import { rank } from "../../../src/diagnose/explain/rank.js";
import { explanationOf, hypothesisOf } from "../hand-made.js";

const ids = (...explanations: Parameters<typeof rank>[0]) =>
  rank(explanations).map(({ hypothesis }) => hypothesis.cause);
const bits = (equal: number) => ({ matched: true, bits: { equal, compared: 100, surprise: 0, worst: 0 } as never });

it("bits before rounding, however small the errors that are left", () => {
  expect(ids(explanationOf("scaled", { left: 0.1 }), explanationOf("clamped", { left: 2, ...bits(99) }))).toEqual([
    "clamped",
  ]);
});

it("what was named before what was fitted, and one cause before two", () => {
  const fitted = { hypothesis: hypothesisOf("column-gain", { fitted: 64 }) };
  const pair = { hypothesis: hypothesisOf("clamped", { also: hypothesisOf("scaled") }) };
  expect(ids(explanationOf("column-gain", fitted), explanationOf("norm-missing"))).toEqual(["norm-missing"]);
  expect(ids(explanationOf("clamped", pair), explanationOf("column-gain", fitted))).toEqual(["column-gain"]);
});

it("all that nothing beats stay, the one with most bits first", () => {
  expect(ids(explanationOf("scaled", bits(97)), explanationOf("clamped", bits(99)))).toEqual(["clamped", "scaled"]);
});

it("where bits decide nothing, clearly worse fits are dropped", () => {
  expect(ids(explanationOf("scaled", { left: 1 }), explanationOf("clamped", { left: 1.3 }))).toEqual([
    "scaled",
    "clamped",
  ]);
  expect(ids(explanationOf("scaled", { left: 1 }), explanationOf("clamped", { left: 1.5 }))).toEqual(["scaled"]);
});

it("of nothing comes nothing", () => {
  expect(rank([])).toEqual([]);
});
