import { expect, it } from "vitest";
import { groupCauses } from "../../../src/diagnose/explain/group.js";
import { explanationOf, findingOf, hypothesisOf } from "../hand-made.js";

const groupsOf = (...findings: Parameters<typeof groupCauses>[0][number][]) =>
  groupCauses(findings).map(({ group, members, alternatives }) => [group, [...members.keys()], alternatives]);

it("the fewest causes explain all findings: a finding goes to the cause that others need anyway", () => {
  expect(
    groupsOf(
      findingOf("a", ["scaled", "norm-missing"]),
      findingOf("b", ["norm-missing"]),
      findingOf("c", ["norm-missing", "rows-shifted"]),
    ),
  ).toEqual([["norm-missing", [0, 1, 2], []]]);
});

it("causes come in the order of their first findings, and each finding once", () => {
  expect(groupsOf(findingOf("a", ["scaled"]), findingOf("b", ["dropout"]), findingOf("c", ["dropout"]))).toEqual([
    ["scaled", [0], []],
    ["dropout", [1, 2], []],
  ]);
});

it("what explains every finding of a cause as well is its alternative; what explains some of them is not", () => {
  expect(
    groupsOf(
      findingOf("a", ["bias-dropped", "additive-constant", "scaled"]),
      findingOf("b", ["bias-dropped", "additive-constant"]),
    ),
  ).toEqual([["bias-dropped", [0, 1], ["additive-constant"]]]);
});

it("a pair is another group than its first cause alone", () => {
  const pair = explanationOf("scaled", { hypothesis: hypothesisOf("scaled", { also: hypothesisOf("clamped") }) });
  const findings = [{ ...findingOf("a", []), explanations: [pair] }, findingOf("b", ["scaled"])];
  expect(groupsOf(...findings)).toEqual([
    ["scaled + clamped", [0], []],
    ["scaled", [1], []],
  ]);
});

it("what nothing explains is in no group", () => {
  expect(groupsOf(findingOf("a", []))).toEqual([]);
});
