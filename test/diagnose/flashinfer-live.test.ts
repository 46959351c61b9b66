import { expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";

const model = "models/ishmael-7m";
const causes = ["embedding-scaled", "residual-dropped", "additive-constant"];

/** What `faultline demo flashinfer --capture` left on an NVIDIA H200 with FlashInfer 0.6.18 itself (docs/case.md). */
test.each([
  ["kernel", "clean", []],
  ["faulty", "fault", causes],
  ["healed", "clean", []],
] as const)(
  "%s, recorded with FlashInfer's own kernels, is %s, and FlashInfer is accused of nothing",
  async (name, outcome, named) => {
    const verdict = await diagnose({ target: `cases/flashinfer-live/${name}`, model, quick: true });
    expect(verdict.verdict).toBe(outcome);
    expect(verdict.causes.map(({ cause }) => cause)).toEqual(named);
    expect(verdict.findings.filter(({ unit }) => unit.endsWith("o_proj.input"))).toEqual([]);
    expect(Object.values(verdict.audits).map(({ pass }) => pass)).toEqual([true, true, true, true]);
  },
);
