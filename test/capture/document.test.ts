import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { eventSchema, manifestSchema, rankedEventSchema, rankedManifestSchema } from "../../src/capture/format.js";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { dtypes } from "../../src/tensor/dtype.js";
import { tinyConfig } from "./tiny-run.js";

const text = readFileSync(new URL("../../docs/capture-format.md", import.meta.url), "utf8");
const blocks = [...text.matchAll(/```json\n([\s\S]*?)```/g)].map((match) => JSON.parse(match[1]!));

describe("docs/capture-format.md", () => {
  it("shows a manifest and events that are valid", () => {
    expect(blocks.length).toBe(8);
    for (const block of blocks) {
      const ranked = block.version === 2 || "rank" in block;
      const schemas = ranked ? [rankedEventSchema, rankedManifestSchema] : [eventSchema, manifestSchema];
      const schema = "event" in block ? schemas[0]! : schemas[1]!;
      expect(schema.safeParse(block).error, JSON.stringify(block)).toBeUndefined();
    }
  });

  it("names every value of the spec and every type", () => {
    const shorthand = text.replaceAll("P.", "model.layers.0.");
    for (const name of decoderGraph(parseModelConfig(tinyConfig, "config.json")).nodes.keys()) {
      if (name === "sample" || /layers\.[1-9]/.test(name)) continue;
      const last = name
        .split(".")
        .slice(name.endsWith(".input") ? -2 : -1)
        .join(".");
      expect(/layers\.\d+$/.test(name) || shorthand.includes(last), name).toBe(true);
    }
    for (const dtype of dtypes) expect(text).toContain(dtype);
  });
});
