import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { outputs, schemaOf } from "../../src/cli/outputs.js";
import { takenBack } from "../../src/cli/schema-change.js";
import { catalogue } from "../../src/lab/catalogue.js";
import { faultData } from "../../src/lab/format.js";
import { expectPublished, published } from "../published.js";

describe("the published schemas", () => {
  it.each(Object.keys(outputs))("%s is the one beside the code that prints it: npm run schemas writes it", (name) => {
    expect(published(name)).toEqual(schemaOf(name));
  });

  it("are one of each output", () => {
    const files = readdirSync(new URL("../../schemas", import.meta.url));
    expect(files.sort()).toEqual(
      Object.keys(outputs)
        .map((name) => `${name}.json`)
        .sort(),
    );
  });

  it("know every field that is printed: another one is refused by the closed schema, not by the published one", () => {
    const faults = [{ ...JSON.parse(JSON.stringify(fault)), colour: "red" }];
    expect(() => expectPublished("lab-list", faults)).toThrow(/colour/);
    expect(() => expectPublished("lab-list", [{ ...fault, kind: "ghost" }])).toThrow(/kind/);
    expectPublished("lab-list", [fault]);
    expectPublished("lab-list", catalogue.map(faultData));
  });
});

const fault = {
  id: "I1-one",
  title: "one",
  kind: "kernel",
  transform: "T1",
  scope: "layer",
  situation: "any",
  expected: ["one"],
  hiddenWhen: "never",
};

describe("fields are only ever added", () => {
  const before = schemaOf("diagnose");
  // biome-ignore lint/suspicious/noExplicitAny: a schema is changed in one place
  const changed = (change: (schema: any) => void) => {
    const copy = structuredClone(before);
    change(copy);
    return takenBack(before, copy);
  };

  it("the same takes nothing back, and neither does a field more or another description", () => {
    expect(changed(() => {})).toEqual([]);
    const more = changed(({ properties }) => {
      properties.more = { type: "string" };
      properties.causes.items.properties.more = { type: "number" };
      properties.causes.items.required.push("more");
      properties.summary.description = "another one";
    });
    expect(more).toEqual([]);
  });

  it.each<[string, (schema: never) => void, string]>([
    ["a field", ({ properties }) => delete properties.summary, "output.summary: is gone"],
    [
      "a field of an optional part's list",
      ({ properties }) => delete properties.reference.properties.values.items.properties.equal,
      "output.reference.values[].equal: is gone",
    ],
    ["that it is there", ({ required }) => required.pop(), "output.recording: was always there, is not any more"],
    [
      "a type",
      ({ properties }) => (properties.coverage.properties.of.type = "string"),
      "output.coverage.of: was integer, is string",
    ],
    [
      "that a number is whole",
      ({ properties }) => (properties.coverage.properties.of.type = "number"),
      "output.coverage.of: was integer, is number",
    ],
    [
      "that there is always something",
      ({ properties }) => (properties.summary = { anyOf: [properties.summary, { type: "null" }] }),
      "output.summary: form 2 is new: output.summary: was string, is null",
    ],
    [
      "the words",
      ({ properties }) => properties.verdict.enum.push("maybe"),
      'output.verdict: "maybe" was not possible',
    ],
  ] as [string, (schema: never) => void, string][])("%s cannot be taken back", (_, change, says) => {
    expect(changed(change)).toEqual([says]);
  });
});
