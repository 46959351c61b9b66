import type { Family } from "./family.js";
import { gemma2 } from "./gemma2.js";
import { gemma3 } from "./gemma3.js";
import { granite } from "./granite.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { olmo2 } from "./olmo2.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { smollm2 } from "./smollm2.js";
import { smollm3 } from "./smollm3.js";

/** Every family the spec knows. */
export const families: readonly Family[] = [
  qwen3,
  qwen2,
  llama,
  smollm2,
  mistral,
  gemma2,
  gemma3,
  phi3,
  smollm3,
  olmo2,
  granite,
];
