import { type ActivationName, activation, activations } from "../../spec/ops/activation.js";
import { identity } from "../../spec/ops/identity.js";
import type { CauseEntries } from "./cause-entry.js";
import { hypothesesOf, ofKind, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** The gated MLP: activation, gate and up exchanged, a product forgotten. */
export const mlpCauses = {
  "activation-wrong": {
    kind: "kernel",
    transform: "T19",
    legend: "Another activation than the config's is applied, or none.",
    hiddenBy: "large positive gates, where several activations agree",
    confusedWith: ["gate-up-swapped", "clamped"],
  },
  "gate-up-swapped": {
    kind: "seam",
    transform: "T12",
    legend: "Gate and up are exchanged: the activation is applied to up.",
    hiddenBy: "never",
    confusedWith: ["activation-wrong", "weight-swapped"],
    report: ["openvinotoolkit/openvino#32507", "a fusion took gate and up in the other order"],
  },
  "multiply-missing": {
    kind: "kernel",
    transform: "T11",
    legend: "The activated gate is not multiplied by up, or up goes on without its gate.",
    hiddenBy: "never",
    confusedWith: ["activation-wrong", "gate-up-swapped"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(mlpCauses);
const isProduct = ofKind("multiply");

export const mlpSearches: readonly Search[] = [
  {
    causes: ["activation-wrong"],
    stage: "large",
    appliesTo: ofKind("activation"),
    rewrites({ site }) {
      const own = site.op.attributes.activation as ActivationName;
      const names = Object.keys(activations) as ActivationName[];
      return names
        .filter((name) => name !== own)
        .map((name) =>
          hypothesis("activation-wrong", site, [replaced(site, { op: activation(name) })], {
            parameters: { activation: name, expected: own },
            statement:
              name === "identity"
                ? `the activation ${own} is not applied`
                : `the activation is ${name} where the config says ${own}`,
          }),
        );
    },
  },
  {
    causes: ["gate-up-swapped"],
    stage: "large",
    appliesTo: isProduct,
    rewrites({ site, investigation }) {
      const [activated, up] = site.inputs as [string, string];
      const act = investigation.graph.node(activated);
      const swapped = [replaced(act, { inputs: [up] }), replaced(site, { inputs: [activated, act.inputs[0]!] })];
      return [
        hypothesis("gate-up-swapped", site, swapped, {
          statement: "gate and up are exchanged: the activation is applied to up",
        }),
      ];
    },
  },
  {
    causes: ["multiply-missing"],
    stage: "large",
    appliesTo: isProduct,
    rewrites({ site }) {
      const [activated, up] = site.inputs as [string, string];
      const only = (input: string) => [replaced(site, { op: identity(), inputs: [input] })];
      return [
        hypothesis("multiply-missing", site, only(activated), {
          parameters: { kept: "gate" },
          statement: "the activated gate is not multiplied by up",
        }),
        hypothesis("multiply-missing", site, only(up), {
          parameters: { kept: "up" },
          statement: "up goes on without its gate",
        }),
      ];
    },
  },
];
