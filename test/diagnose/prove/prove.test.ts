import { join } from "node:path";
import { expect, it } from "vitest";
import { openCapture } from "../../../src/capture/reader.js";
import { type CauseId, propose } from "../../../src/diagnose/causes/catalogue.js";
import { Investigation } from "../../../src/diagnose/check/investigation.js";
import { Consistency } from "../../../src/diagnose/explain/consistency.js";
import { prove } from "../../../src/diagnose/prove/prove.js";
import { randomSteps } from "../../../src/lab/batch.js";
import { findFault } from "../../../src/lab/catalogue.js";
import { randomGenerator } from "../../../src/lab/random.js";
import { runLab } from "../../../src/lab/run.js";
import { writeTinyModel } from "../../../src/lab/tiny-model.js";
import { temporaryFolder } from "../../lab/folder.js";
import { explanationOf } from "../hand-made.js";

const folder = temporaryFolder();
const model = writeTinyModel(join(folder, "model"), { seed: 4, config: { num_hidden_layers: 2, vocab_size: 600 } });
const path = join(folder, "run.safetensors");
runLab({
  model,
  store: "bfloat16",
  path,
  steps: randomSteps(randomGenerator(7), 600, [[10]]),
  faults: [{ fault: findFault("I63-residual-dropped"), layers: [1], values: { branch: "mlp" } }],
});
const investigation = new Investigation(openCapture(path), model.config, model.parameters);
const checks = investigation.units().map(({ name }) => investigation.check(name));
const unit = "model.layers.1";

/** The first rewrite of a value that means this cause. */
function rewrite(cause: CauseId, site: string) {
  const finding = investigation.check(unit);
  return propose({ investigation, site: investigation.graph.node(site), finding }, new Set([cause]))[0]!;
}

it("a proof counts the units that come out with the causes, and without each", () => {
  const cause = { hypotheses: [rewrite("residual-dropped", unit)] };
  const { needed, proof } = prove(investigation, checks, [cause], { detokenize: () => null as never, quick: true });
  expect(needed).toEqual([cause]);
  expect(proof.reproduced).toEqual({ matched: checks.length, of: checks.length });
  expect(proof.necessity).toEqual([{ without: 0, matched: checks.length - 1 }]);
  expect(proof.notes).toEqual(["the run from its tokens was left out, as asked for"]);
});

it("a cause without which as much is reproduced is dropped", () => {
  const right = { hypotheses: [rewrite("residual-dropped", unit)] };
  const idle = { hypotheses: [rewrite("gate-up-swapped", "model.layers.0.mlp.down_proj.input")] };
  const { needed } = prove(investigation, checks, [idle, right], { detokenize: () => null as never, quick: true });
  expect(needed).toEqual([right]);
});

it("a rewrite that breaks units that are right is no explanation beside one that does not", () => {
  const good = explanationOf("residual-dropped", { hypothesis: rewrite("residual-dropped", unit) });
  const breaking = explanationOf("norm-missing", {
    hypothesis: rewrite("norm-missing", "model.layers.1.input_layernorm"),
  });
  const consistency = new Consistency(investigation);
  expect(consistency.filter(unit, [breaking, good])).toEqual([good]);
  expect(consistency.filter(unit, [breaking, breaking])).toEqual([breaking, breaking]);
});
