import type { NarrowOperands } from "../narrow-operands.js";
import type { Recipe } from "../recipe.js";

/** What an attention recipe says: where scores, weights and their sum are rounded, and in which tiles keys come. */
export interface AttentionRounding {
  /** The product q·k is stored before it is scaled. */
  readonly scores: boolean;
  /** The scaled score is stored. */
  readonly scaled: boolean;
  /** The largest score is subtracted and the difference stored before it is exponentiated. */
  readonly centred: boolean;
  /** Each step of a soft cap is stored. */
  readonly capped: boolean;
  /** Queries are scaled and stored before the product. */
  readonly scaledQuery: boolean;
  /** What multiplies the values: normalised probabilities or unnormalised exponentials, stored, or float32 numbers. */
  readonly weights: "probabilities" | "exponentials" | "float32";
  /** The denominator sums the stored exponentials rather than the unrounded ones. */
  readonly roundedSum: boolean;
  /** Keys per tile of the running maximum; 0: one maximum over all keys. */
  readonly tile: number;
  /** Tiles run from the last to the first. */
  readonly descending: boolean;
  /** Queries and keys are each multiplied by the root of the scale and stored before the product. */
  readonly scaledHalves: boolean;
  /** What operands are rounded to, and of which products. */
  readonly narrow: NarrowOperands;
  readonly narrowed: "scores" | "values" | "both";
  /** Parts of the keys that are attended apart and merged by their log-sum-exps. */
  readonly parts: number;
  /** Whole vectors of keys go through PyTorch's fast exponential on the CPU. */
  readonly fastExponential: boolean;
}

/** Nothing rounded inside. */
export const float32Attention: AttentionRounding = {
  scores: false,
  scaled: false,
  centred: false,
  capped: false,
  scaledQuery: false,
  weights: "float32",
  roundedSum: false,
  tile: 0,
  descending: false,
  scaledHalves: false,
  narrow: "none",
  narrowed: "both",
  parts: 1,
  fastExponential: false,
};

function recipe(
  id: string,
  title: string,
  known: string[],
  settings: Partial<AttentionRounding>,
  refines?: string,
): Recipe {
  return { id, title, known, settings: { ...float32Attention, ...settings }, refines };
}

/** Tiles of keys in known kernels. */
const tiles = [16, 32, 64, 80, 96, 112, 128, 160, 176, 192, 256, 512];

const flash = { weights: "exponentials" } as const;

function tf32Recipes(narrowed: AttentionRounding["narrowed"]): Recipe[] {
  const narrow = "tf32";
  const which =
    narrowed === "both" ? "both products" : `the product with the ${narrowed === "scores" ? "keys" : "values"}`;
  const suffix = narrowed === "both" ? "" : `-${narrowed}`;
  return [
    recipe(
      `tf32-halves${suffix}`,
      `queries and keys scaled by the root of the scale, operands of ${which} rounded to TF32`,
      ["SDPA's math kernel with TF32 allowed"],
      { narrow, narrowed, scaledHalves: true, weights: "probabilities" },
    ),
    recipe(`tf32-eager${suffix}`, `operands of ${which} rounded to TF32`, ["Hugging Face eager with TF32 allowed"], {
      narrow,
      narrowed,
      weights: "probabilities",
    }),
    recipe(
      `tf32-exponentials${suffix}`,
      `operands of ${which} rounded to TF32, unnormalised exponentials multiply the values`,
      ["SDPA's memory-efficient kernel with TF32 allowed"],
      { narrow, narrowed },
    ),
  ];
}

/** Float32 attention whose products are those of 16-bit tensor cores. */
function narrowRecipes(narrow: "bfloat16" | "float16"): Recipe[] {
  const id = `operands-${narrow}`;
  const title = `queries, keys, values and unnormalised exponentials rounded to ${narrow}, the unrounded ones summed`;
  const known = ["Faultline's CUDA prefill"];
  return [
    recipe(id, title, known, { narrow }),
    ...[32, 64].map((tile) =>
      recipe(
        `${id}-tiles-${tile}`,
        `${title}, against a running maximum over tiles of ${tile} keys`,
        known,
        { narrow, tile },
        id,
      ),
    ),
  ];
}

/** One maximum over all keys, then the tiles of running maxima; tiles matter only to rows with more keys than one holds. */
export const attentionRecipes: readonly Recipe[] = [
  recipe(
    "exponentials-rounded",
    "scores in float32, exponentials rounded before they multiply the values, their unrounded sum divides at the end",
    ["SDPA's flash kernel", "FlashAttention"],
    flash,
  ),
  recipe(
    "eager",
    "scores rounded, scaled and rounded, softmax in float32, probabilities rounded",
    ["Hugging Face eager"],
    { scores: true, scaled: true, capped: true, weights: "probabilities" },
  ),
  recipe(
    "exponentials-rounded-and-summed",
    "scores in float32, exponentials rounded, the sum of the rounded ones divides at the end",
    ["FlashInfer fa2 prefill"],
    { ...flash, roundedSum: true },
  ),
  recipe(
    "float32",
    "float32 throughout, one rounding",
    ["FlashInfer decode", "SDPA's math kernel", "Faultline's kernels"],
    {},
  ),
  recipe("probabilities-rounded", "scores in float32, normalised probabilities rounded", ["fused softmax kernels"], {
    weights: "probabilities",
  }),
  recipe(
    "scaled-scores-rounded",
    "scaled scores rounded, softmax in float32, probabilities rounded",
    ["unfused attention"],
    {
      scaled: true,
      weights: "probabilities",
    },
  ),
  recipe(
    "eager-centred",
    "scores rounded, scaled and rounded, less their largest and rounded, probabilities rounded",
    ["Hugging Face eager with attention sinks"],
    { scores: true, scaled: true, centred: true, weights: "probabilities" },
  ),
  recipe(
    "scaled-query",
    "queries scaled and rounded, scores rounded, softmax in float32, probabilities rounded",
    ["eager code that scales the queries"],
    { scaledQuery: true, scores: true, capped: true, weights: "probabilities" },
  ),
  recipe(
    "fast-exponentials-rounded",
    "as exponentials-rounded, with a fast exponential for whole vectors of 16 keys in tiles of 512",
    ["SDPA's flash kernel on the CPU"],
    { ...flash, fastExponential: true, tile: 512 },
  ),
  ...(["both", "scores", "values"] as const).flatMap((narrowed) => tf32Recipes(narrowed)),
  ...(["bfloat16", "float16"] as const).flatMap((narrow) => narrowRecipes(narrow)),
  ...[2, 3, 4, 6, 8].flatMap((parts) =>
    [false, true].map((roundedSum) =>
      recipe(
        `parts-${parts}${roundedSum ? "-summed" : ""}`,
        `exponentials rounded against the maximum of each of ${parts} parts of the keys, merged in float32, ${roundedSum ? "the rounded ones" : "the unrounded ones"} summed`,
        ["split-KV kernels"],
        { ...flash, roundedSum, parts },
        roundedSum ? "exponentials-rounded-and-summed" : "exponentials-rounded",
      ),
    ),
  ),
  ...[false, true].flatMap((roundedSum) =>
    [false, true].flatMap((descending) =>
      tiles.map((tile) =>
        recipe(
          `tiles-${tile}${descending ? "-descending" : ""}${roundedSum ? "-summed" : ""}`,
          `exponentials rounded against a running maximum over tiles of ${tile} keys${descending ? ", last tile first" : ""}, ${roundedSum ? "the rounded ones" : "the unrounded ones"} summed`,
          roundedSum ? ["FlashInfer"] : descending ? ["FlashAttention 2"] : ["flash kernels"],
          { ...flash, roundedSum, tile, descending },
          roundedSum ? "exponentials-rounded-and-summed" : "exponentials-rounded",
        ),
      ),
    ),
  ),
];
