import type { CachedType } from "../../capture/cache-formats.js";
import type { GraphNode } from "../../spec/graph.js";
import { append } from "../../spec/ops/append.js";
import { isQuantised, quantise } from "../../tensor/scaled-type.js";
import type { Investigation } from "../check/investigation.js";
import type { Hypothesis } from "./hypothesis.js";
import { cacheScaleCauses, mistakableScales, scaleCause, type WrongScale } from "./mistaken-scale.js";
import { hypothesesOf, isRecorded, ofKind, type Search } from "./proposal.js";
import { affine, replaced, taken, transformed } from "./transform.js";

const hypothesis = hypothesesOf(cacheScaleCauses);

/** The scale of a narrow KV cache, wrong where attention reads it or where the append writes it. */
export const cacheScaleSearches: readonly Search[] = [
  {
    causes: ["cache-scale"],
    stage: "named",
    appliesTo: ofKind("attention"),
    rewrites: ({ site, investigation }) =>
      site.inputs.slice(1).flatMap((input, side) => {
        const type = narrowType(investigation, input);
        if (!type) return [];
        const twice = { scale: type.scale ** 2, title: "applied twice" };
        const scales = [...mistakableScales(investigation, input, type.scale), twice];
        return scales.map((wrong) => readWith(investigation, site, input, side === 0 ? "key" : "value", type, wrong));
      }),
  },
  {
    causes: ["cache-scale"],
    stage: "named",
    appliesTo: (proposal) => proposal.site.op.kind === "append" && isRecorded(proposal),
    rewrites({ site, investigation }) {
      const type = narrowType(investigation, site.name);
      if (!type) return [];
      const named = mistakableScales(investigation, site.name, type.scale);
      const fitted = investigation.observations.fittedScale(site.name);
      if (fitted && Math.abs(fitted.scale / type.scale - 1) > fitted.error + type.error)
        named.push({ scale: fitted.scale, title: undefined });
      return named.map((wrong) => writtenWith(site, type, wrong));
    },
  },
];

function narrowType({ observations }: Investigation, cache: string): CachedType | undefined {
  const format = observations.cacheFormat(cache);
  if (format?.scale === undefined || (!isQuantised(format.dtype) && format.scale === 1)) return undefined;
  return { ...format, scale: format.scale };
}

function readWith(
  { graph }: Investigation,
  site: GraphNode,
  input: string,
  side: string,
  { scale: right }: CachedType,
  wrong: WrongScale,
): Hypothesis {
  const factor = wrong.scale / right;
  const read: GraphNode = {
    ...graph.node(input),
    name: `${site.name}.${side}_scale`,
    op: affine(taken({}), { scale: wrong.scale }, () => factor),
    inputs: [input],
  };
  const inputs = site.inputs.map((name) => (name === input ? read.name : name));
  return described(site, [read, replaced(site, { inputs })], "read", right, wrong);
}

function writtenWith(site: GraphNode, { dtype, scale: right }: CachedType, wrong: WrongScale): Hypothesis {
  const op = transformed(append(), { dtype, scale: wrong.scale }, (block) => ({
    ...block,
    value: block.value.map((x) => quantise(x, { dtype, scale: wrong.scale }) * right),
  }));
  return described(site, [replaced(site, { op })], "write", right, wrong);
}

function described(
  site: GraphNode,
  replacements: GraphNode[],
  at: "read" | "write",
  right: number,
  wrong: WrongScale,
): Hypothesis {
  const { statement, parameters } = scaleCause(at, right, wrong);
  return hypothesis("cache-scale", site, replacements, { statement, parameters });
}
