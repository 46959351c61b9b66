import { describe, expect, it } from "vitest";
import { decide, summarise } from "../../../src/diagnose/tell/decision.js";
import type { Finding } from "../../../src/diagnose/tell/verdict.js";
import { causeOf, checkOf } from "../hand-made.js";

const finding = (unit: string, cause: number | null): Finding => ({
  unit,
  step: 0,
  rmsZ: 10,
  maxZ: 100,
  extent: { share: 1 },
  cause,
});
const fine = checkOf("fine", 0.5);

describe("a verdict", () => {
  it("is clean where all units follow, and inconclusive where none could be checked", () => {
    expect(decide([], [], [fine])).toBe("clean");
    expect(decide([], [], [])).toBe("inconclusive");
  });

  it("is a fault with one settled cause, and ambiguous while each has alternatives", () => {
    const settled = causeOf("scaled");
    const doubtful = causeOf("scaled", { alternatives: ["norm-divisor"], separate: "record q" });
    expect(decide([settled], [finding("a", 0)], [checkOf("a", 9)])).toBe("fault");
    expect(decide([doubtful], [finding("a", 0)], [checkOf("a", 9)])).toBe("ambiguous");
    expect(decide([doubtful, settled], [finding("a", 0)], [checkOf("a", 9)])).toBe("fault");
    expect(summarise("ambiguous", [doubtful], [], [])).toBe("I cannot tell between scaled and norm-divisor: record q.");
  });

  it("is no alarm for a trap that changes nothing yet, or for a wrong record of a right run", () => {
    expect(decide([causeOf("position-offset", { latent: true })], [], [fine])).toBe("clean");
    expect(decide([causeOf("record-overwritten")], [finding("a", 0)], [fine])).toBe("clean");
    expect(summarise("clean", [causeOf("record-overwritten")], [], [fine])).toMatch(
      /^The run is right, its record is not/,
    );
  });

  it("of units that nothing explains: a fault far beyond rounding, inconclusive a little beyond", () => {
    expect(decide([], [finding("a", null)], [checkOf("a", 9)])).toBe("fault");
    expect(decide([], [finding("a", null)], [checkOf("a", 1.2)])).toBe("inconclusive");
    expect(summarise("fault", [], [finding("a", null)], [checkOf("a", 9)])).toBe(
      "1 unit does not follow from its own inputs, the first is a; nothing in the catalogue explains it.",
    );
  });
});
