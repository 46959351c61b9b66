import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { looksPadded } from "../../src/capture/looks-padded.js";
import { withMask } from "../../src/capture/padding.js";
import { openPlainCapture } from "../../src/capture/plain.js";
import { Investigation } from "../../src/diagnose/check/investigation.js";
import { chooseRotary } from "../../src/diagnose/check/rotary-choice.js";
import { writeSafetensors } from "../../src/tensor/safetensors.js";
import { integers, PaddedRuns } from "./padded-runs.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-looks-padded-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const runs = new PaddedRuns(folder);
const [qwen3] = runs.models;

describe("a recording without its mask", () => {
  /** What looks like padding in input_ids alone. */
  function suggestion(rows: number[][], ids: Record<string, unknown> = {}) {
    const path = runs.fresh();
    writeSafetensors(path, [
      { name: "input_ids", ...integers([rows.length, rows[0]!.length], rows.flat()) },
      { name: "model.embed_tokens", dtype: "bfloat16", shape: [1], bytes: new Uint8Array(2) },
    ]);
    const capture = openPlainCapture(path);
    const found = looksPadded(capture, { ...qwen3!.config, padToken: 0, beginToken: 1, endTokens: [2], ...ids });
    capture.close();
    return found && { ...found, mask: [...found.mask].join("") };
  }

  it.each([
    [
      "pads on the left",
      [
        [0, 0, 7],
        [5, 6, 7],
      ],
      { mask: "001111", token: 0, side: "left", padded: 1 },
    ],
    [
      "pads on the right",
      [
        [7, 8, 0],
        [5, 0, 0],
      ],
      { mask: "110100", token: 0, side: "right", padded: 2 },
    ],
    [
      "the end token on the right",
      [
        [7, 8, 2],
        [5, 2, 2],
      ],
      { mask: "111110", token: 2, side: "right", padded: 1 },
    ],
    [
      "the begin token on the left",
      [
        [1, 1, 7],
        [1, 8, 9],
      ],
      { mask: "011111", token: 1, side: "left", padded: 1 },
    ],
    [
      "a token the config does not know",
      [
        [9, 9, 7],
        [5, 6, 7],
      ],
      { mask: "001111", token: 9, side: "left", padded: 1 },
    ],
    [
      "pads rather than what a text repeats",
      [
        [8, 8, 8, 7, 0],
        [5, 6, 7, 4, 0],
        [5, 7, 6, 0, 0],
      ],
      { token: 0, side: "right", padded: 3 },
    ],
  ])("looks padded with %s", (_, rows, expected) => {
    expect(suggestion(rows)).toMatchObject(expected);
  });

  it.each([
    ["one sequence", [[0, 0, 7]]],
    [
      "a run of the same length in all rows",
      [
        [0, 0, 7],
        [0, 0, 8],
      ],
    ],
    [
      "rows that begin with different tokens",
      [
        [4, 5, 6],
        [7, 8, 9],
      ],
    ],
    [
      "a begin token in every row",
      [
        [1, 5, 6],
        [1, 8, 9],
      ],
    ],
    [
      "a row of pads alone",
      [
        [0, 0, 0],
        [7, 8, 9],
      ],
    ],
  ])("does not look padded with %s", (_, rows) => {
    expect(suggestion(rows)).toBeUndefined();
  });

  it.each(["left", "right"] as const)(
    "padded on the %s: attention fails without the suggested mask, nothing with it",
    (side) => {
      const capture = openPlainCapture(runs.record({ side, rotary: "columns", recorded: [] }));
      const failing = (recording: typeof capture) => {
        const investigation = chooseRotary(new Investigation(recording, qwen3!.config, qwen3!.parameters));
        const checks = investigation.units().map(({ name }) => investigation.check(name));
        return checks.filter((check) => check.excess > 1).map(({ node }) => node.op.kind);
      };
      expect(new Set(failing(capture))).toEqual(new Set(["attention"]));
      const found = looksPadded(capture, qwen3!.config)!;
      expect(found).toMatchObject({ token: 0, side, padded: 2 });
      expect(failing(withMask(capture, found.mask))).toEqual([]);
      capture.close();
    },
  );

  it("that holds a mask needs no suggestion", () => {
    const capture = openPlainCapture(runs.record());
    expect(looksPadded(capture, qwen3!.config)).toBeUndefined();
    capture.close();
  });
});
