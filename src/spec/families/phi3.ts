import { z } from "zod";
import type { Family } from "./family.js";
import { parsed, plainDecoder, sharedFields, windowFields, windowWhere } from "./fields.js";

const schema = sharedFields.extend({
  sliding_window: windowFields.sliding_window,
  original_max_position_embeddings: z.number().positive().nullish(),
});

/** Names that checkpoints have used for LongRoPE. */
const longNames = new Set(["su", "yarn", "longrope"]);

/**
 * Phi-3 and Phi-4: q, k and v are one parameter, gate and up another; RoPE may turn part of each head, with other
 * frequencies for long sequences. Abdin et al., "Phi-3 Technical Report", 2024.
 */
export const phi3: Family = {
  modelTypes: ["phi3"],
  read(json, origin) {
    const c = parsed(schema, json, origin, {
      max_position_embeddings: 4096,
      original_max_position_embeddings: 4096,
    });
    const given = c.rope_parameters ?? c.rope_scaling;
    const type = given?.rope_type ?? given?.type ?? "default";
    // The field of the config itself goes before that of its RoPE.
    const original = c.original_max_position_embeddings ?? given?.original_max_position_embeddings;
    const rope = given && {
      ...given,
      rope_type: longNames.has(type) ? "longrope" : type,
      ...(original && { original_max_position_embeddings: original }),
    };
    const theta = given?.rope_theta ?? c.rope_theta;
    const fields = { ...c, rope_parameters: rope, rope_theta: theta };
    return {
      ...plainDecoder(fields, origin),
      packedProjections: true,
      windowLeft: windowWhere(c.sliding_window, () => true),
    };
  },
};
