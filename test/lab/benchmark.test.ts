import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { benchmark, type Score, tally } from "../../src/lab/benchmark.js";
import { catalogue } from "../../src/lab/catalogue.js";
import { runData } from "../../src/lab/format.js";
import { tinyFamilies, writeTinyModel } from "../../src/lab/tiny-model.js";
import { expectPublished } from "../published.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 300 };
const models = tinyFamilies.map((family) => writeTinyModel(join(folder, family), { family, seed: 21, config }));

const stores = ["bfloat16", "float32", "bfloat16", "float16"] as const;
const right = ["named", "ambiguous", "hidden"];
/** A share of the catalogue, evenly: test/diagnose/causes has the others, `faultline lab run` all of them. */
const drawn = catalogue.map((fault, i) => ({ fault, i })).filter(({ i }) => i % 14 === 1);

describe("the diagnosis of injected faults", () => {
  it.each(drawn)("$fault.id", async ({ fault, i }) => {
    const scores: Score[] = [];
    for (let k = 0; k < models.length && scores.length === 0; k++) {
      const model = models[(i + k) % models.length]!;
      const store = stores[(i + k) % stores.length]!;
      const baselines = i === drawn[0]!.i;
      const options = { models: [model], faults: [fault], stores: [store], seeds: 1, folder, baselines };
      for await (const score of benchmark(options)) scores.push(score);
    }
    expect(scores.length).toBeGreaterThan(0);
    expectPublished("lab-run", runData([], scores));
    for (const score of scores) {
      expect(right, JSON.stringify(score)).toContain(score.outcome);
      expect(score.strangers).toEqual([]);
    }
  });

  it("counts outcomes", () => {
    const score = { outcome: "named" } as Score;
    expect(tally([score, score, { outcome: "hidden" } as Score])).toMatchObject({ named: 2, hidden: 1, missed: 0 });
  });
});
