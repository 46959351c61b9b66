import type { Family } from "./family.js";
import { gemma2 } from "./gemma2.js";
import { gemma3 } from "./gemma3.js";
import { glm4Moe } from "./glm4-moe.js";
import { gptOss } from "./gpt-oss.js";
import { granite } from "./granite.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { mixtral } from "./mixtral.js";
import { olmo2 } from "./olmo2.js";
import { olmo3 } from "./olmo3.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen2Moe } from "./qwen2-moe.js";
import { qwen3 } from "./qwen3.js";
import { qwen3Moe } from "./qwen3-moe.js";
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
  olmo3,
  granite,
  qwen3Moe,
  qwen2Moe,
  mixtral,
  gptOss,
  glm4Moe,
];
