import { describe, expect, it } from "vitest";
import type { Investigation } from "../../../src/diagnose/check/investigation.js";
import { openInvestigation } from "../../../src/diagnose/check/open-investigation.js";
import { rolesOf } from "../../../src/diagnose/threads/batches.js";
import { adoptRoles, settleRoles } from "../../../src/diagnose/threads/wire.js";
import { roleOf } from "../../../src/spec/site.js";

const source = { target: "test/golden/hf_h200_bf16_sdpa.safetensors", model: "models/ishmael-7m" };

/** Where a search for the recipe of a unit starts. */
const startOf = (investigation: Investigation, name: string) =>
  [...investigation.book.start(investigation.interior(name)).ops].map(([role, { id }]) => [role, id]);

describe("recipes that other threads settled", () => {
  const here = openInvestigation(source).investigation;
  const there = openInvestigation(source).investigation;
  const roles = rolesOf(there, there.units());

  it("are asked for once per role that several units have, those of one kind of op together", () => {
    const names = roles.flat();
    const placed = names.map((name) => there.graph.node(name));
    expect(new Set(placed.map(roleOf)).size).toBe(names.length);
    expect(placed.every(({ name }) => there.hasBits(name) && roleOf(there.graph.node(name)).includes("*"))).toBe(true);
    const kinds = roles.map((piece) => [...new Set(piece.map((name) => there.graph.node(name).op.kind))]);
    expect(kinds.every(({ length }) => length === 1)).toBe(true);
    expect(new Set(kinds.flat()).size).toBe(kinds.length);
  });

  it("are those that this one settles, and searches start from them", () => {
    const settled = roles.flatMap((names) => settleRoles(there, names));
    expect(roles.flat().some((name) => startOf(there, name).length > 0)).toBe(true);
    adoptRoles(here, structuredClone(settled));
    const own = openInvestigation(source).investigation;
    for (const name of roles.flat()) {
      const role = roleOf(own.graph.node(name));
      expect(settleRoles(here, [name]), role).toEqual(settleRoles(own, [name]));
      expect(startOf(here, name), role).toEqual(startOf(there, name));
    }
  });
});
