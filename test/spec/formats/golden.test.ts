import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelParameters } from "../../../src/spec/formats/model-parameters.js";
import { weightFormats } from "../../../src/spec/formats/table.js";
import { decode, encode } from "../../../src/tensor/dtype.js";
import { SafetensorsFile } from "../../../src/tensor/safetensors.js";

const goldens = "test/golden/formats";
const cases = readdirSync(goldens, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

/** The sign of a zero changes no product. */
const unsignedZero = (x: number) => x + 0;

describe("a checkpoint in a weight format", () => {
  it.each(cases)("is read bit by bit as the format's reference dequantises it: %s", (name) => {
    const parameters = new ModelParameters(join(goldens, name));
    const expected = new SafetensorsFile(join(goldens, name, "expected.safetensors"));
    const kept = [...expected.entries.keys()].filter((key) => !key.includes(" in "));
    expect([...parameters.names()].sort()).toEqual(kept.sort());
    for (const [key, entry] of expected.entries) {
      const parameter = key.replace(/ in \w+$/, "");
      expect(parameters.shape(parameter), key).toEqual(entry.shape);
      const rows = entry.shape.length < 2 ? 1 : entry.shape[0]!;
      const values = parameters.rows(parameter, 0, rows);
      const bytes = expected.readBytes(entry);
      expect(Array.from(values, Math.abs).some((x) => x > 0)).toBe(true);
      const meant = decode(bytes, entry.dtype).map(unsignedZero);
      expect(decode(encode(values, entry.dtype), entry.dtype).map(unsignedZero), key).toEqual(meant);
      if (parameter !== key) continue;
      expect(parameters.dtype(parameter), key).toBe(entry.dtype);
      // What is read in its own type has no digits beyond it.
      expect(values.map(unsignedZero), key).toEqual(meant);
      const width = values.length / rows;
      for (const row of [0, rows - 1]) {
        expect(parameters.rows(parameter, row, 1), `${key} ${row}`).toEqual(
          values.slice(row * width, (row + 1) * width),
        );
      }
    }
    parameters.close();
    expected.close();
  });

  it("exists for every format there is", () => {
    const found = new Set<string>();
    for (const name of cases) {
      const parameters = new ModelParameters(join(goldens, name));
      for (const parameter of parameters.names()) {
        const format = parameters.format(parameter);
        if (format) found.add(format.id);
      }
      parameters.close();
    }
    expect([...found].sort()).toEqual(weightFormats.map(({ id }) => id).sort());
  });
});
