import { type ActivationName, activation, activations } from "../../spec/ops/activation.js";
import { identity } from "../../spec/ops/identity.js";
import type { Hypothesis } from "./hypothesis.js";
import { type CauseFamily, hypothesis } from "./proposal.js";
import { replaced } from "./transform.js";

/** The gated MLP: activation, gate and up exchanged, a product forgotten. */
export const mlpCauses: CauseFamily = ({ site, investigation }) => {
  const { graph } = investigation;
  const out: Hypothesis[] = [];
  if (site.op.kind === "activation") {
    const own = site.op.attributes.activation as ActivationName;
    for (const name of Object.keys(activations) as ActivationName[]) {
      if (name === own) continue;
      out.push(
        hypothesis("activation-wrong", site, [replaced(site, { op: activation(name) })], {
          kind: "kernel",
          transform: "T19",
          parameters: { activation: name, expected: own },
          statement:
            name === "identity"
              ? `the activation ${own} is not applied`
              : `the activation is ${name} where the config says ${own}`,
        }),
      );
    }
  }
  if (site.op.kind === "multiply") {
    const [activated, up] = site.inputs as [string, string];
    const act = graph.node(activated);
    const swapped = [replaced(act, { inputs: [up] }), replaced(site, { inputs: [activated, act.inputs[0]!] })];
    const only = (input: string) => [replaced(site, { op: identity(), inputs: [input] })];
    out.push(
      hypothesis("gate-up-swapped", site, swapped, {
        kind: "seam",
        transform: "T12",
        statement: "gate and up are exchanged: the activation is applied to up",
      }),
      hypothesis("multiply-missing", site, only(activated), {
        kind: "kernel",
        transform: "T11",
        parameters: { kept: "gate" },
        statement: "the activated gate is not multiplied by up",
      }),
      hypothesis("multiply-missing", site, only(up), {
        kind: "kernel",
        transform: "T11",
        parameters: { kept: "up" },
        statement: "up goes on without its gate",
      }),
    );
  }
  return out;
};
