import { rope } from "../../spec/ops/rope.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import type { CauseEntries } from "./cause-entry.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** RoPE that differs from layer to layer, with the length of the sequence, or covers a part of each head. */
export const ropeLayerCauses = {
  "rope-of-other-layers": {
    kind: "seam",
    transform: "T5",
    legend: "Layers rotate as those of the other type do: local and global layers are exchanged or treated alike.",
    hiddenBy: "position 0",
    confusedWith: ["rope-theta", "rope-linear-scale", "rope-frequencies"],
    isRotary: true,
  },
  "rope-where-none": {
    kind: "seam",
    transform: "T5",
    legend: "A layer that goes without RoPE rotates queries or keys as the others do.",
    hiddenBy: "position 0",
    confusedWith: ["rope-missing", "rope-of-other-layers"],
    isRotary: true,
  },
  "rope-for-other-length": {
    kind: "parameter",
    transform: "T5",
    legend: "The frequencies for long sequences are used for a short one, or the reverse.",
    hiddenBy: "position 0; pairs whose factors agree",
    confusedWith: ["rope-frequencies", "rope-scaling-ignored"],
    isRotary: true,
  },
  "rope-whole-head": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE rotates all channels of a head where the model leaves some of them as they are.",
    hiddenBy: "position 0",
    confusedWith: ["rope-partial", "rope-frequencies"],
    isRotary: true,
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(ropeLayerCauses);
const isRope = ofKind("rope");
const attributesOf = ({ site }: Proposal) => site.op.attributes as unknown as RopeAttributes;

export const ropeLayerSearches: readonly Search[] = [
  {
    causes: ["rope-of-other-layers"],
    stage: "large",
    appliesTo: isRope,
    rewrites: (proposal) => likeOthers(proposal, "rope-of-other-layers", "layers of the other type"),
  },
  {
    causes: ["rope-where-none"],
    stage: "large",
    appliesTo: ({ site }) =>
      site.op.kind === "identity" && (site.site.what === "query-rotated" || site.site.what === "key-rotated"),
    rewrites: (proposal) => likeOthers(proposal, "rope-where-none", "other layers, though this one goes without RoPE"),
  },
  {
    causes: ["rope-for-other-length"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && attributesOf(proposal).beyond !== undefined,
    rewrites(proposal) {
      const a = attributesOf(proposal);
      const sets = [
        [a.beyond!.inverseFrequencies, "long"],
        [a.inverseFrequencies, "short"],
      ] as const;
      return sets.map(([inverseFrequencies, used]) =>
        hypothesis(
          "rope-for-other-length",
          proposal.site,
          [replaced(proposal.site, { op: rope({ ...a, inverseFrequencies, beyond: undefined }) })],
          { parameters: { used }, statement: `RoPE uses the frequencies for ${used} sequences` },
        ),
      );
    },
  },
  {
    causes: ["rope-whole-head"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && attributesOf(proposal).rotaryDim < attributesOf(proposal).headDim,
    rewrites(proposal) {
      const a = attributesOf(proposal);
      const { headDim } = a;
      const theta = proposal.investigation.config.ropeTheta;
      const inverseFrequencies = Float64Array.from({ length: headDim / 2 }, (_, j) => theta ** ((-2 * j) / headDim));
      return [1, a.attentionFactor].map((attentionFactor) => {
        const whole = { ...a, rotaryDim: headDim, inverseFrequencies, attentionFactor, beyond: undefined };
        return hypothesis("rope-whole-head", proposal.site, [replaced(proposal.site, { op: rope(whole) })], {
          statement: `RoPE rotates all ${headDim} channels of a head, the model ${a.rotaryDim} of them`,
        });
      });
    },
  },
];

/** The rotations of other layers that are not the site's own. */
function likeOthers(
  { site, investigation: { graph } }: Proposal,
  cause: "rope-of-other-layers" | "rope-where-none",
  whose: string,
) {
  const ops = new Set(
    graph
      .all(site.site.what)
      .map(({ op }) => op)
      .filter(({ kind }) => kind === "rope"),
  );
  const sets = new Map([...ops].map((op) => [(op.attributes as unknown as RopeAttributes).inverseFrequencies, op]));
  const own = (site.op.attributes as unknown as Partial<RopeAttributes>).inverseFrequencies;
  return [...sets]
    .filter(([frequencies]) => frequencies !== own)
    .map(([, op]) =>
      hypothesis(cause, site, [replaced(site, { op })], {
        statement: `RoPE rotates as in ${whose}`,
      }),
    );
}
