import type { Family } from "./family.js";
import { parsed, plainDecoder, sharedFields, windowFields, windowWhere } from "./fields.js";
import { expertModules, mixtureBranch } from "./mixture.js";
import { expertCountOf, mixtureFields } from "./mixture-fields.js";

const schema = sharedFields.extend({ ...mixtureFields, sliding_window: windowFields.sliding_window });

/** Mixtral: Mistral with a mixture of experts in every layer. Jiang et al., "Mixtral of Experts", 2024. */
export const mixtral: Family = {
  modelTypes: ["mixtral"],
  read(json, origin) {
    const c = parsed(schema, json, origin, {
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      rope_theta: 1000000,
    });
    const { experts, topK, width } = expertCountOf(c, origin);
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      windowLeft: windowWhere(c.sliding_window, () => true),
      feedForward: () => (scope, _, input) => {
        // The checkpoint's names for it; modules are called mlp.
        const block = `${scope.path}.block_sparse_moe`;
        return mixtureBranch(scope, input, {
          routing: { experts, topK, scoring: "softmax", renormalised: true, scale: 1 },
          router: { module: "gate", weight: `${block}.gate.weight` },
          weightsType: "float32",
          hidden: plain.hiddenSize,
          width,
          experts: expertModules(`${block}.experts`, experts, { gate: "w1", up: "w3", down: "w2" }),
          gating: plain.activation,
        });
      },
    };
  },
};
