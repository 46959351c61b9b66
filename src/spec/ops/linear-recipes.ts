import type { Quantisation } from "../../tensor/quantisation.js";
import type { Recipe } from "../recipe.js";

const exact = { narrow: "none", parts: 1, even: false, running: false, biasAfter: false };

/**
 * Where a product rounds. `narrow`: operands are rounded to that format first. `parts`: the sum is split along its
 * terms, at multiples of a tile or evenly, and each part is stored in the type between ops (PyTorch allows that on CUDA by
 * default); `running`: so is every sum of parts. `biasAfter`: the product is stored before the bias is added.
 */
const plainRecipes: readonly Recipe[] = [
  {
    id: "one-rounding",
    title: "float32 sum, one rounding",
    known: ["cuBLAS", "oneDNN", "Faultline's kernels"],
    settings: exact,
  },
  ...[false, true].flatMap((running) =>
    [false, true].flatMap((even) =>
      [2, 3, 4, 6, 8].map((parts) => ({
        id: `split-${parts}${even ? "-evenly" : ""}${running ? "-running" : ""}`,
        title: `the sum in ${parts} parts, each stored in 16 bits${running ? ", and every sum of parts too" : ""}`,
        known: ["cuBLAS split-K with reduced-precision reduction"],
        refines: "one-rounding",
        settings: { ...exact, parts, even, running },
      })),
    ),
  ),
  {
    id: "tf32",
    title: "operands rounded to TF32, float32 sum",
    known: ["cuBLAS with TF32 allowed"],
    settings: { ...exact, narrow: "tf32" },
  },
  ...(["bfloat16", "float16"] as const).map((narrow) => ({
    id: `operands-${narrow}`,
    title: `operands rounded to ${narrow}, float32 sum`,
    known: ["Faultline's CUDA prefill", "float32 products with reduced precision allowed"],
    settings: { ...exact, narrow },
  })),
];

const biasAfter: Recipe = {
  id: "bias-after",
  title: "the product is rounded before the bias is added",
  known: ["unfused bias"],
  settings: { ...exact, biasAfter: true },
};

/** A way in which an operand may be quantised on the fly, with words for it. */
export interface OperandQuantisation {
  readonly quantisation: Quantisation;
  /** Part of a recipe's id. */
  readonly id: string;
  readonly title: string;
  /** Whether its scale is not the product's own, but that of the projections a runtime merges it with. */
  readonly merged?: boolean;
}

/** What a weight format leaves open about a product: beside its weights, whether operands are narrow numbers too. */
export interface QuantisedProduct {
  readonly operands: readonly OperandQuantisation[];
  /** The scale that the weight's numbers are requantised to where a runtime merges its projection with others. */
  readonly mergedScale?: number | undefined;
}

const known = new Map<string, readonly Recipe[]>();

/**
 * The ways in which a product may round. A quantised weight may be rounded as the format's reference dequantises it, to the
 * type between ops with its scale, or not at all where sums are scaled; operands may be quantised where the config says so.
 */
export function recipesOf(bias: boolean, quantised: QuantisedProduct | undefined): readonly Recipe[] {
  const isMerged = quantised?.mergedScale !== undefined;
  const key = `${bias} ${isMerged} ${quantised?.operands.map(({ id }) => id)}`;
  let recipes = known.get(key);
  if (!recipes) {
    const plain = bias ? [plainRecipes[0]!, biasAfter, ...plainRecipes.slice(1)] : plainRecipes;
    recipes = quantised ? [...plain, ...quantisedRecipes(bias, quantised)] : plain;
    known.set(key, recipes);
  }
  return recipes;
}

function quantisedRecipes(bias: boolean, { operands, mergedScale }: QuantisedProduct): Recipe[] {
  const recipe = (id: string, title: string, knownFrom: string, settings: Recipe["settings"]): Recipe[] =>
    [false, true].slice(0, bias ? 2 : 1).map((after) => ({
      id: after ? `${id}-bias-after` : id,
      title: after ? `${title}; rounded before the bias is added` : title,
      known: [knownFrom],
      settings: { ...exact, biasAfter: after, ...settings },
    }));
  return [
    ...recipe("weights-unrounded", "scales applied to the sums, weights never rounded", "Marlin, Triton kernels", {
      weight: "exact",
    }),
    ...recipe(
      "weights-stored",
      "scales and weights rounded to the type between ops",
      "kernels that dequantise in 16 bits",
      {
        weight: "store",
      },
    ),
    ...operands.flatMap(({ id, title }, operand) => [
      ...recipe(`operands-${id}`, `operands in ${title}, scales applied to the sums`, "fp8 and int8 GEMM kernels", {
        weight: "exact",
        operand,
      }),
      ...recipe(
        `operands-${id}-dequantised`,
        `operands in ${title}, both dequantised before the product`,
        "emulation",
        {
          operand,
        },
      ),
      ...recipe(
        `operands-${id}-fake`,
        `operands in ${title}, every step of it rounded to the type between ops`,
        "compressed-tensors in transformers",
        { operand, fake: true },
      ),
    ]),
    ...(mergedScale === undefined ? [] : operands).flatMap(({ id, title, quantisation, merged }, operand) =>
      // Where operands have fixed scales, the largest of them goes with the largest of the weights'.
      quantisation.fixed !== undefined && !merged
        ? []
        : requantisations.flatMap(({ name, words, ...settings }) =>
            recipe(
              `operands-${id}-${name}`,
              `operands in ${title}, weights requantised to the largest scale of merged projections${words}`,
              "vLLM merged scales",
              { weight: "merged", operand, ...settings },
            ),
          ),
    ),
  ];
}

/** Where weights are requantised in float16: whether their own scale is rounded to it first, and how they are divided. */
const requantisations = [
  { name: "merged", words: "", narrow: false, reciprocal: true },
  { name: "merged-narrow", words: ", their own rounded to float16", narrow: true, reciprocal: true },
  { name: "merged-divided", words: ", by a division", narrow: false, reciprocal: false },
  {
    name: "merged-narrow-divided",
    words: ", their own rounded to float16, by a division",
    narrow: true,
    reciprocal: false,
  },
] as const;
