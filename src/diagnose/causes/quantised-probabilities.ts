import { narrowFormats } from "../../tensor/narrow-format.js";
import { attendingSearches } from "./attention-settings.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Search } from "./proposal.js";
import { storeType } from "./store-type.js";

/** Probabilities on their way to the values. */
export const probabilityCauses = {
  "probabilities-quantised": {
    kind: "kernel",
    transform: "T9",
    legend: "Attention probabilities are rounded to a narrow type before they multiply the values.",
    hiddenBy: "rows with one key",
    confusedWith: ["cache-rounded", "merge-wrong"],
  },
} as const satisfies CauseEntries;

export const probabilitySearches: readonly Search[] = [
  attendingSearches(probabilityCauses)(
    ["probabilities-quantised"],
    (one, _, { investigation }) => {
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
          { rewrite: { narrow: { format, scale } } },
          `attention probabilities are rounded to ${format.title}${scale === 1 ? "" : `, times ${scale},`} before they multiply the values`,
          { format: format.id, scale },
        ),
      );
    },
    { stage: "fine" },
  ),
];
