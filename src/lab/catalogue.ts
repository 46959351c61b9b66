import { InputError } from "../tensor/errors.js";
import type { Fault } from "./fault.js";
import { attentionFaults } from "./faults/attention.js";
import { decodingFaults } from "./faults/decoding.js";
import { embeddingFaults } from "./faults/embedding.js";
import { layerFaults } from "./faults/layers.js";
import { layoutFaults } from "./faults/layout.js";
import { linearFaults } from "./faults/linear.js";
import { logitsFaults } from "./faults/logits.js";
import { mlpFaults } from "./faults/mlp.js";
import { normFaults } from "./faults/norm.js";
import { normStatisticsFaults } from "./faults/norm-statistics.js";
import { pageFaults } from "./faults/pages.js";
import { quantisationFaults } from "./faults/quantisation.js";
import { rangeFaults } from "./faults/range.js";
import { rankFaults } from "./faults/ranks.js";
import { residualFaults } from "./faults/residual.js";
import { ropeFaults } from "./faults/rope.js";
import { scoreFaults } from "./faults/scores.js";
import { pairFaults } from "./faults/together.js";
import { trainingFaults } from "./faults/training.js";

/** Every fault the lab can put into a run, in the order of a forward pass. */
export const catalogue: readonly Fault[] = [
  ...embeddingFaults,
  ...normFaults,
  ...normStatisticsFaults,
  ...linearFaults,
  ...ropeFaults,
  ...attentionFaults,
  ...scoreFaults,
  ...decodingFaults,
  ...pageFaults,
  ...layoutFaults,
  ...residualFaults,
  ...mlpFaults,
  ...quantisationFaults,
  ...trainingFaults,
  ...rangeFaults,
  ...layerFaults,
  ...pairFaults,
  ...logitsFaults,
  ...rankFaults,
];

/** The fault of that id, or the only one whose id begins or ends with it. @throws InputError when there is none. */
export function findFault(id: string): Fault {
  const exact = catalogue.find((fault) => fault.id === id);
  if (exact) return exact;
  const close = catalogue.filter((fault) => fault.id.startsWith(`${id}-`) || fault.id.endsWith(`-${id}`));
  if (close.length === 1) return close[0]!;
  const why = close.length > 1 ? `one of ${close.map((fault) => fault.id).join(", ")}` : "an id that lab list prints";
  throw new InputError(`fault "${id.slice(0, 60)}": expected ${why}`);
}
