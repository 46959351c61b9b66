import { describe, expect, it } from "vitest";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import { Generation, generate } from "../../src/engine/serve/generation.js";
import type { Request } from "../../src/engine/serve/scheduler.js";
import { tinyConfig, tinyParameters, tinyPrompt } from "./tiny-model.js";

const parameters = tinyParameters();

/** Bit patterns for freed pages: a large finite number in float32, then NaN. */
const sentinels = [0x4f4f4f4f, 0x7fc00000];

function open(pageCount = 64, pageSize = 4): ReferencePath {
  return new ReferencePath({ config: tinyConfig, parameters, pageCount, pageSize });
}

const requests: Request[] = [3, 17, 1, 9, 30].map((length, i) => ({
  tokenIds: tinyPrompt(length, i),
  maxTokens: 12 + 3 * i,
  sampling: i % 2 ? { temperature: 0.8, topP: 0.9, seed: i } : undefined,
}));

async function alone(): Promise<(readonly number[])[]> {
  const tokens: (readonly number[])[] = [];
  for (const request of requests) tokens.push((await generate(open(), [request]))[0]!.tokenIds);
  return tokens;
}

const expected = await alone();

async function together(path: ReferencePath, options = {}): Promise<(readonly number[])[]> {
  return (await generate(path, requests, options)).map(({ tokenIds }) => tokenIds);
}

describe("generation", () => {
  it("gives varied text of the lengths asked for", () => {
    expect(expected.map((tokens) => tokens.length)).toEqual([12, 15, 18, 21, 24]);
    for (const tokens of expected) expect(new Set(tokens).size).toBeGreaterThan(4);
  });

  it("gives the same tokens batched with sequences of other lengths as alone", async () => {
    expect(await together(open())).toEqual(expected);
  });

  it.each([1, 2, 5, 16])("gives the same tokens with prompts in chunks of %d", async (chunk) => {
    expect(await together(open(), { chunk })).toEqual(expected);
  });

  it.each([1, 5, 16, 32])("gives the same tokens with pages of %d", async (pageSize) => {
    expect(await together(open(Math.ceil(256 / pageSize), pageSize))).toEqual(expected);
  });

  it.each([1, 3])("gives the same tokens when it decides after every %d tokens", async (stepsAhead) => {
    expect(await together(open(), { stepsAhead })).toEqual(expected);
  });

  it.each(sentinels)("gives the same tokens on recycled pages filled with %d", async (poison) => {
    const path = open();
    path.poisonPages(
      Array.from({ length: path.pageCount }, (_, page) => page),
      poison,
    );
    for (let round = 0; round < 2; round++) expect(await together(path, { poison })).toEqual(expected);
  });

  it.each(sentinels)("gives the same tokens after preemption, on pages filled with %d", async (poison) => {
    const generation = new Generation(open(15), { chunk: 6, poison });
    const sequences = requests.map((request) => generation.add(request));
    await generation.run();
    expect(generation.scheduler.preemptions).toBeGreaterThan(2);
    expect(sequences.map(({ generated }) => generated)).toEqual(expected);
    expect(generation.scheduler.pool.freeCount).toBe(15);
  });

  it("takes in and lets go of sequences while others run", async () => {
    const generation = new Generation(open(), { stepsAhead: 4 });
    const first = generation.add(requests[4]!);
    await generation.step();
    await generation.step();
    const others = [0, 1, 2].map((i) => generation.add(requests[i]!));
    await generation.step();
    generation.remove(others[1]!);
    const last = generation.add(requests[3]!);
    await generation.run();
    expect(first.generated).toEqual(expected[4]);
    expect(others[0]!.generated).toEqual(expected[0]);
    expect(others[2]!.generated).toEqual(expected[2]);
    expect(last.generated).toEqual(expected[3]);
    expect(others[1]!.finish).toBe("removed");
    expect(expected[1]!.slice(0, others[1]!.generated.length)).toEqual(others[1]!.generated);
  });

  it("can be added to from within its own callback", async () => {
    let added = false;
    const generation = new Generation(open(), {
      onToken(sequence) {
        if (sequence.id === 0 && sequence.generated.length === 5 && !added) {
          added = true;
          generation.add(requests[1]!);
        }
      },
    });
    const first = generation.add(requests[0]!);
    const seen: string[] = [];
    while (await generation.step()) seen.push(generation.scheduler.running.map(({ id }) => id).join(" "));
    expect(first.generated).toEqual(expected[0]);
    expect(seen).toContain("0 1");
  });

  it("stops at end tokens and reports tokens in order", async () => {
    const [, , , fourth] = expected;
    const end = fourth![6]!;
    const at = fourth!.indexOf(end);
    const seen: number[] = [];
    const [result] = await generate(open(), [{ ...requests[3]!, endTokens: [end] }], {
      onToken: (_, token) => seen.push(token),
    });
    expect(result).toEqual({ tokenIds: fourth!.slice(0, at + 1), finish: "end" });
    expect(seen).toEqual(result!.tokenIds);
  });

  it("ends a sequence whose logits are not finite and leaves the others alone", async () => {
    const broken = tinyParameters();
    const row = broken.rows("model.embed_tokens.weight", 96, 1);
    row.fill(Number.NaN);
    const path = new ReferencePath({ config: tinyConfig, parameters: broken, pageCount: 64, pageSize: 4 });
    const results = await generate(path, [{ tokenIds: [1, 96, 2], maxTokens: 5 }, requests[0]!]);
    expect(results[0]).toEqual({ tokenIds: [], finish: "nonfinite" });
    expect(results[1]!.tokenIds.slice(0, 3)).toEqual(expected[0]!.slice(0, 3));
  });
});
