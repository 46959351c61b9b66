import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { causesAt } from "../../../src/diagnose/causes/catalogue.js";
import { openInvestigation } from "../../../src/diagnose/check/open-investigation.js";
import { ReferencePath } from "../../../src/engine/reference/reference-path.js";
import { Generation } from "../../../src/engine/serve/generation.js";
import { Recording } from "../../../src/engine/serve/recording.js";
import type { GraphNode } from "../../../src/spec/graph.js";
import { readModelConfig } from "../../../src/spec/models/config-file.js";
import { decoderGraph } from "../../../src/spec/models/decoder.js";
import { emptyBlock, type Op } from "../../../src/spec/op.js";
import { Checkpoint } from "../../../src/tensor/checkpoint.js";
import { temporaryFolder } from "../../lab/folder.js";
import { briefVerdict } from "../brief-verdict.js";

const folder = temporaryFolder();
const golden = "test/golden/moe";

type Evaluate = Op["evaluate"];

/** An op that makes each row by hand from rows of its first `count` inputs. */
function byRow(
  count: number,
  make: (inputs: Float64Array[], parameter: (name: string) => Float64Array) => ArrayLike<number>,
): Evaluate {
  return ({ input, noise, parameters }, rows, columns) => {
    const out = emptyBlock(rows.length * columns.length, noise);
    for (let r = 0; r < rows.length; r++) {
      const inputs = Array.from({ length: count }, (_, index) => input(index, rows.subarray(r, r + 1)).value);
      const made = make(inputs, (name) => parameters.rows(name, 0, 1));
      columns.forEach((column, c) => {
        out.value[r * columns.length + c] = made[column]!;
      });
    }
    return out;
  };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

interface Case {
  readonly family: string;
  readonly node: string;
  readonly cause: string;
  readonly evaluate: Evaluate;
}

const bias = "model.layers.2.mlp.gate.e_score_correction_bias";

/** Faults written out, each in one value of a mixture. */
const cases: readonly Case[] = [
  {
    family: "glm4_moe",
    node: "model.layers.2.mlp.gate.indices",
    cause: "routing-groups-ignored",
    evaluate: byRow(1, ([logits], parameter) => {
      const scores = logits!.map((x, e) => sigmoid(x) + parameter(bias)[e]!);
      return [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!).slice(0, 3);
    }),
  },
  {
    family: "mixtral",
    node: "model.layers.1.mlp.gate.scores",
    cause: "routing-scores",
    evaluate: byRow(2, ([logits, chosen]) => {
      const scores = chosen!.map((e) => sigmoid(logits![e]!));
      return scores.map((score) => score / (scores[0]! + scores[1]!));
    }),
  },
  {
    family: "mixtral",
    node: "model.layers.0.mlp.experts",
    cause: "routing-weights-ignored",
    evaluate: byRow(1, ([made]) => made!.slice(0, 64).map((x, c) => (x + made![64 + c]!) / 2)),
  },
  {
    family: "glm4_moe",
    node: "model.layers.1.mlp",
    cause: "routed-experts-missing",
    evaluate: byRow(2, ([, shared]) => shared!),
  },
  {
    family: "glm4_moe",
    node: "model.layers.2.mlp",
    cause: "shared-expert-repeated",
    evaluate: byRow(2, ([routed, shared]) => routed!.map((x, c) => x + 4 * shared![c]!)),
  },
];

async function recordedWith({ family, node: name, evaluate }: Case, target: string): Promise<void> {
  const model = join(golden, family);
  const { config, json } = readModelConfig(model);
  const parameters = new Checkpoint(model);
  const graph = decoderGraph(config);
  const node = graph.node(name);
  const faulty: GraphNode = { ...node, op: { ...node.op, evaluate } };
  const path = new ReferencePath({
    config,
    parameters,
    pageCount: 12,
    pageSize: 4,
    dtype: "bfloat16",
    graph: graph.with([faulty]),
  });
  const runtime = { name: "faultline reference", device: "cpu", dtype: "bfloat16" };
  const generation = new Generation(path, { recorder: new Recording(target, { model: json, runtime }) });
  generation.add({ tokenIds: [5, 17, 99, 3, 42, 8, 120, 77, 31, 64], maxTokens: 2 });
  generation.add({ tokenIds: [11, 150, 2, 93, 58, 36, 71], maxTokens: 2 });
  await generation.run();
  parameters.close();
}

describe("a fault in a mixture of experts", () => {
  it.each(cases.map((one) => [one.cause, one] as const))("%s is named where it is and nowhere else", async (_, one) => {
    const target = join(folder, one.cause);
    await recordedWith(one, target);
    const verdict = await briefVerdict(target, join(golden, one.family));
    expect(verdict.causes.map(({ cause }) => cause)).toEqual([one.cause]);
    expect(verdict.causes[0]!.units).toEqual([one.node]);
  });
});

describe("causes of mixtures", () => {
  const model = join(golden, "glm4_moe");
  const { investigation, close } = openInvestigation({
    target: join(model, "bf16-eager-eager.safetensors"),
    model,
  });
  const at = (name: string) => {
    const site = investigation.graph.node(name);
    return new Set(causesAt({ investigation, site, finding: investigation.check("model.layers.2.mlp.experts") }));
  };

  it("apply to the values of a mixture and to no dense layer", () => {
    const mixture: [name: string, causes: string[]][] = [
      ["model.layers.2.mlp.gate", ["router-precision"]],
      ["model.layers.2.mlp.gate.indices", ["routing-bias-ignored", "routing-bias-doubled", "routing-groups-ignored"]],
      [
        "model.layers.2.mlp.gate.scores",
        ["routing-bias-in-weights", "routing-order", "routing-scale", "routing-scores"],
      ],
      ["model.layers.2.mlp.experts.down_proj", ["expert-map-shifted"]],
      ["model.layers.2.mlp.experts", ["tokens-dropped", "routing-weights-of-another-row", "routing-weights-ignored"]],
      ["model.layers.2.mlp", ["shared-expert-missing", "routed-experts-missing", "shared-expert-repeated"]],
    ];
    const elsewhere = ["gate_proj", "down_proj", "act_fn"].map((name) => at(`model.layers.0.mlp.${name}`));
    for (const [name, causes] of mixture) {
      const found = at(name);
      for (const cause of causes) {
        expect(found, name).toContain(cause);
        for (const other of elsewhere) expect(other).not.toContain(cause);
      }
    }
    close();
  });
});
