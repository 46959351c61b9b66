import type { PathMemory } from "../device/path-memory.js";
import { columnsOf } from "../device/places.js";
import { historySteps } from "../device/token-choice.js";
import type { Dispatch } from "./dispatch.js";
import type { Gpu } from "./gpu.js";
import { dispatch } from "./step-context.js";
import { argmaxParts, type Workspace } from "./workspace.js";

/** The kernels that turn logits into tokens: a threshold for nuclei, the greatest of each part, and the choice. */
export async function chooseTokens(
  gpu: Gpu,
  { batch, choice, logits: place }: PathMemory,
  { parts }: Workspace,
  { nucleus, advance }: { readonly nucleus: boolean; readonly advance: boolean },
): Promise<Dispatch[]> {
  const vocabulary = columnsOf(place);
  const logits = place.buffer;
  const { header, arrays } = batch;
  const { requests: sampling, history } = choice;
  const constants = { VOCABULARY: vocabulary };
  // A small vocabulary has no work for many workgroups.
  const count = Math.min(argmaxParts, Math.ceil(vocabulary / 1024));
  const selection = { PARTS: count, HISTORY_WIDTH: choice.width, HISTORY_STEPS: historySteps, ADVANCE: advance };
  const dispatches = [
    await dispatch(
      gpu,
      "argmax",
      "argmax",
      { ...constants, PARTS: count },
      { header, logits, sampling, batch: arrays, parts },
      (shape) => [count, shape.sequences, 1],
    ),
    await dispatch(
      gpu,
      advance ? "select+advance" : "select",
      "select-token",
      selection,
      { header, parts, batch: arrays, history },
      (shape) => [shape.sequences, 1, 1],
    ),
  ];
  if (!nucleus) return dispatches;
  const operands = { header, logits, sampling };
  const topP = await dispatch(gpu, "top_p", "top-p", constants, operands, (shape) => [shape.sequences, 1, 1]);
  return [topP, ...dispatches];
}
