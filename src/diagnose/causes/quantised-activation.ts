import type { GraphNode } from "../../spec/graph.js";
import { quantised } from "../../spec/ops/quantised.js";
import { type CauseFamily, freshName, hypothesis } from "./proposal.js";
import { activationQuantisations } from "./quantisation-table.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";

/** The operand of a product is quantised on the fly, as fp8 and int8 kernels do; its own record stays right. */
export const quantisedActivationCauses: CauseFamily = ({ site, investigation, finding }) => {
  if (site.op.kind !== "linear" || !investigation.hasBits(finding.node.name)) return [];
  const operand = investigation.graph.node(site.inputs[0]!);
  return activationQuantisations(storeType(investigation)).map((quantisation) => {
    const narrow: GraphNode = {
      ...operand,
      name: freshName(investigation.graph, `${site.name}.quantised operand`),
      op: quantised(quantisation),
      inputs: [operand.name],
    };
    return hypothesis("activation-quantised", site, [narrow, replaced(site, { inputs: [narrow.name] })], {
      kind: "kernel",
      transform: "T9",
      parameters: quantisation.parameters,
      statement: `the operand of the product is quantised first: ${quantisation.title}`,
    });
  });
};
