import { narrowFormats } from "../../tensor/narrow-format.js";
import type { Hypothesis } from "./hypothesis.js";
import type { Rewrite } from "./mask.js";
import type { Proposal } from "./proposal.js";
import { storeType } from "./store-type.js";

/** Probabilities rounded to a narrow type before they multiply the values, as fp8 and int8 attention does. */
export function quantisedProbabilities(one: Rewrite, { investigation, finding }: Proposal): Hypothesis[] {
  if (!investigation.hasBits(finding.node.name)) return [];
  const { e4m3, e5m2, int8, bfloat16, float16 } = narrowFormats;
  const store = storeType(investigation);
  const narrower = store === "float32" ? [bfloat16, float16] : store === "float16" ? [bfloat16] : [];
  const choices = [
    [e4m3, 1],
    [e4m3, 448],
    [e4m3, 256],
    [e5m2, 1],
    [int8, 127],
    ...narrower.map((format) => [format, 1] as const),
  ] as const;
  return choices.map(([format, scale]) =>
    one(
      "probabilities-quantised",
      "kernel",
      "T9",
      { rewrite: { narrow: { format, scale } } },
      `attention probabilities are rounded to ${format.title}${scale === 1 ? "" : `, times ${scale},`} before they multiply the values`,
      { format: format.id, scale },
    ),
  );
}
