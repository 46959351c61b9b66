import type { PathMemory } from "../device/path-memory.js";
import { columnsOf } from "../device/places.js";
import { historySteps } from "../device/token-choice.js";
import type { CudaLaunch } from "./launch.js";
import type { Modules } from "./modules.js";
import { launch } from "./step-context.js";
import { argmaxParts, type Workspace } from "./workspace.js";

/** The kernels that turn logits into tokens: a threshold for nuclei, the greatest of each part, and the choice. */
export function chooseTokens(
  modules: Modules,
  memory: PathMemory,
  { parts: best }: Workspace,
  { nucleus, advance }: { readonly nucleus: boolean; readonly advance: boolean },
): CudaLaunch[] {
  const { choice, logits: place } = memory;
  const { header, arrays: batch } = memory.batch;
  const vocabulary = columnsOf(place);
  const logits = place.buffer;
  const { requests: sampling, history } = choice;
  // A small vocabulary has no work for many blocks.
  const parts = Math.min(argmaxParts, Math.ceil(vocabulary / 1024));
  const search = { header, batch, logits, sampling, best, vocabulary, parts };
  const ring = { history, historyWidth: choice.width, historySteps };
  const selection = { header, best, batch, ...ring, parts, advance: advance ? 1 : 0 };
  const select = launch(modules, advance ? "select+advance" : "select", "select-token", selection, ({ sequences }) => [
    sequences,
    1,
    1,
  ]);
  const launches: CudaLaunch[] = [
    launch(modules, "argmax", "argmax", search, ({ sequences }) => [parts, sequences, 1]),
    advance ? { ...select, advances: memory.batch } : select,
  ];
  if (!nucleus) return launches;
  const values = { header, logits, sampling, vocabulary };
  return [launch(modules, "top_p", "top-p", values, ({ sequences }) => [sequences, 1, 1]), ...launches];
}
