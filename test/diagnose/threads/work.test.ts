import { describe, expect, it } from "vitest";
import { type Effects, notVisible } from "../../../src/diagnose/explain/visibility.js";
import { stop, take, workOf } from "../../../src/diagnose/threads/work.js";

describe("work that threads share", () => {
  it("gives every piece to one of them", () => {
    const work = workOf(["a", "b", "c"]);
    const [one, other] = [take(work), take(structuredClone(work))];
    expect([one, other, other, one].map((thread) => thread.next().value)).toEqual(["a", "b", "c", undefined]);
    expect(other.next().done).toBe(true);
  });

  it("gives none any more when it is stopped", () => {
    const work = workOf([1, 2, 3]);
    const pieces = take(work);
    pieces.next();
    stop(work);
    expect([...pieces]).toEqual([]);
  });
});

describe("what witnesses looked at apart say together", () => {
  const effects = (changed: number, visible: boolean, where = "q_norm", unit = where): Effects =>
    new Map([[`norm-epsilon ${where}`, { cause: "norm-epsilon", where, changed, unit, visible }]]);

  it("lists a cause that none of them could have shown, by the one that came nearest", () => {
    const found = notVisible([effects(0, false), effects(0.25, false), effects(0.25, false, "q_norm", "later")]);
    expect(found).toEqual([
      { cause: "norm-epsilon", why: "on this input it would change 25% of q_norm, by no more than rounding" },
    ]);
  });

  it("lists none that any of them could have shown", () => {
    expect(notVisible([effects(0, false), effects(0.5, true), effects(0.9, false)])).toEqual([]);
  });
});
