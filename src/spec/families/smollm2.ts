import type { Family } from "./family.js";
import { llama } from "./llama.js";

/** SmolLM2 under a name of its own; most of its checkpoints call themselves llama, whose decoder it is. */
export const smollm2: Family = { ...llama, modelTypes: ["smollm2"] };
