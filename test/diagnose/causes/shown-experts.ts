import type { GraphNode } from "../../../src/spec/graph.js";
import { chooseExperts } from "../../../src/spec/ops/choose-experts.js";
import type { Routing } from "../../../src/spec/ops/routing.js";
import { routingWeights } from "../../../src/spec/ops/routing-weights.js";
import type { Shown } from "./injections.js";

const glm = (name: string, value: string): Shown => ({
  fault: { mixture: "glm4_moe", name: `fault-${name}` },
  at: `.model.layers.2.mlp${value}`,
  never: ".model.layers.2.mlp.shared_experts.gate_proj",
});
const qwen = (name: string, value: string): Shown => ({
  fault: { mixture: "qwen3_moe", name: `fault-${name}` },
  at: `.model.layers.2.mlp.${value}`,
});
const gptOss = (name: string, value: string, unit = value): Shown => ({
  fault: { mixture: "gpt_oss", name: `fault-${name}` },
  at: value,
  unit,
  never: "mlp.router",
});
const routingOf = ({ op }: GraphNode) => op.attributes as unknown as Routing;

/** Runs of the causes that only mixtures of experts have; two are right runs of a model that means something else. */
export const shownExperts = {
  "attention-sink-missing": gptOss("without-sinks", "self_attn.o_proj.input"),
  "gate-up-interleaved": gptOss("halves-for-pairs", "mlp.experts.down_proj.input", "mlp.experts"),
  "gate-limit-missing": gptOss("without-clamp", "mlp.experts.down_proj.input", "mlp.experts"),
  "router-precision": glm("router-in-bfloat16", ".gate"),
  "routing-bias-ignored": glm("bias-ignored", ".gate.indices"),
  "routing-bias-doubled": glm("bias-doubled", ".gate.indices"),
  "routing-bias-in-weights": glm("biased-weights", ".gate.scores"),
  "routing-groups-ignored": {
    ...qwen("capacity", "gate.indices"),
    meaning: (node) => chooseExperts({ ...routingOf(node), groups: { count: 4, kept: 2 } }),
  },
  "routing-order": gptOss("softmax-before-top-k", "mlp.router.scores"),
  "routing-not-renormalised": qwen("not-renormalised", "gate.scores"),
  "routing-renormalised": {
    fault: { mixture: "qwen2_moe", name: "fault-renormalised" },
    at: "mlp.gate.scores",
    never: "mlp.gate",
  },
  "routing-scale": glm("without-scale", ".gate.scores"),
  "routing-scores": {
    ...glm("bias-ignored", ".gate.scores"),
    meaning: (node) => routingWeights({ ...routingOf(node), scoring: "softmax" }, node.op.dtype),
  },
  "expert-map-shifted": { ...qwen("next-expert", "experts.down_proj"), unit: ".model.layers.2.mlp.experts" },
  "tokens-dropped": qwen("capacity", "experts"),
  "routing-weights-of-another-row": qwen("weights-of-next-token", "experts"),
  "routing-weights-ignored": glm("averaged", ".experts"),
  "shared-expert-missing": glm("without-shared-expert", ""),
  "routed-experts-missing": glm("without-routed-experts", ""),
  "shared-expert-repeated": glm("shared-expert-twice", ""),
  "shared-gate-ignored": {
    fault: { mixture: "qwen2_moe", name: "fault-without-shared-gate" },
    at: "mlp.shared_expert.gated",
    unit: "mlp",
    never: "mlp.gate",
  },
} as const satisfies Record<string, Shown>;
