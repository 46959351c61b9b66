import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import type { Hypothesis } from "./hypothesis.js";
import { epsilons, normCauses } from "./norm.js";
import { hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** A group of channels that is normalised together, and by how much more than meant it came out. */
interface GroupGain {
  readonly gain: number;
  /** The group's inputs. */
  readonly x: Float64Array;
  /** Mean of their squares. */
  readonly power: number;
}

const hypothesis = hypothesesOf(normCauses);
/**
 * What the gain of each row says about the norm: another epsilon, another divisor, a mean over the first channels alone.
 * Even columns decide, odd ones judge.
 */
export const fittedNormSearches: readonly Search[] = [
  {
    causes: ["norm-epsilon", "norm-divisor", "norm-part"],
    stage: "large",
    fits: true,
    appliesTo: (proposal) => proposal.site.op.kind === "rmsnorm" && isRecorded(proposal),
    rewrites(proposal) {
      const a = proposal.site.op.attributes as unknown as RmsNormAttributes;
      const groups = groupGains(proposal, a);
      if (groups.length === 0) return [];
      return [
        ...fittedEpsilon(proposal, a, groups),
        ...fittedDivisor(proposal, a, groups),
        ...fittedPart(proposal, a, groups),
      ];
    },
  },
];

function groupGains({ site, finding, investigation }: Proposal, a: RmsNormAttributes): GroupGain[] {
  const { rows, columns, expected, observed, noise } = finding.comparison;
  const x = investigation.evaluator.read(site.inputs[0]!, rows, site.name).value;
  const inputs = investigation.graph.node(site.inputs[0]!).columns;
  const out: GroupGain[] = [];
  for (let r = 0; r < rows.length; r++) {
    for (let first = 0; first < site.columns; first += a.width) {
      let cross = 0;
      let power = 0;
      columns.forEach((column, c) => {
        const i = r * columns.length + c;
        if (c % 2 === 1 || column < first || column >= first + a.width || !Number.isFinite(noise[i]!) || noise[i] === 0)
          return;
        cross += (expected[i]! * observed[i]!) / noise[i]! ** 2;
        power += expected[i]! ** 2 / noise[i]! ** 2;
      });
      const own = x.subarray(r * inputs + first, r * inputs + first + a.width);
      const squares = own.reduce((sum, value) => sum + value * value, 0);
      const gain = cross / power;
      if (gain > 0 && Number.isFinite(gain) && squares > 0) out.push({ gain, x: own, power: squares / a.width });
    }
  }
  return out;
}

/** Mean of squares plus epsilon that a group was really divided by the root of. */
function dividedBy({ gain, power }: GroupGain, { epsilon }: RmsNormAttributes): number {
  return (power + epsilon) / gain ** 2;
}

function median(values: number[]): number {
  return values.sort((p, q) => p - q)[values.length >> 1]!;
}

function fitted(
  { site }: Proposal,
  a: RmsNormAttributes,
  cause: keyof typeof normCauses,
  change: Partial<RmsNormAttributes>,
  parameters: Record<string, number>,
  statement: string,
): Hypothesis {
  return hypothesis(cause, site, [replaced(site, { op: rmsNorm({ ...a, ...change }) })], {
    fitted: 1,
    heldOut: (_, c) => c % 2 === 1,
    parameters,
    statement,
    group: `${cause} ${JSON.stringify(parameters)}`,
  });
}

/** gain² = (mean x² + ε) / (mean x² + ε'). */
function fittedEpsilon(proposal: Proposal, a: RmsNormAttributes, groups: readonly GroupGain[]): Hypothesis[] {
  const estimate = median(groups.map((group) => dividedBy(group, a) - group.power));
  if (!(estimate > 0)) return [];
  const rounded = new Set([1, 2, 3].map((digits) => Number(estimate.toPrecision(digits))));
  return [...rounded]
    .filter((epsilon) => !epsilons.includes(epsilon) && epsilon !== a.epsilon)
    .map((epsilon) => {
      const statement = `RMSNorm uses epsilon ${epsilon} where the config says ${a.epsilon}`;
      return fitted(proposal, a, "norm-epsilon", { epsilon }, { epsilon, expected: a.epsilon }, statement);
    });
}

/** The same gain in every row: the sum is divided by another number. */
function fittedDivisor(proposal: Proposal, a: RmsNormAttributes, groups: readonly GroupGain[]): Hypothesis[] {
  const divisor = Math.round(
    median(groups.map((group) => (group.power * a.width) / Math.max(1e-300, dividedBy(group, a) - a.epsilon))),
  );
  if (!(divisor >= 1) || divisor === a.width || divisor > 16 * a.width) return [];
  const statement = `the sum of squares is divided by ${divisor}, not by the ${a.width} channels it is taken over`;
  return [fitted(proposal, a, "norm-divisor", { divisor }, { divisor, width: a.width }, statement)];
}

/** Where the mean over the first k channels gives every row's gain: the few k that come nearest. */
function fittedPart(proposal: Proposal, a: RmsNormAttributes, groups: readonly GroupGain[]): Hypothesis[] {
  const targets = groups.map((group) => Math.log(dividedBy(group, a)));
  const sums = new Float64Array(groups.length);
  const candidates: { k: number; error: number }[] = [];
  for (let k = 1; k < a.width; k++) {
    let error = 0;
    groups.forEach(({ x }, g) => {
      sums[g]! += x[k - 1]! ** 2;
      error += (Math.log(sums[g]! / k + a.epsilon) - targets[g]!) ** 2;
    });
    candidates.push({ k, error });
  }
  candidates.sort((p, q) => p.error - q.error);
  return candidates.slice(0, nearest).map(({ k }) => {
    const statement = `the mean of squares is taken over the first ${k} of ${a.width} channels`;
    return fitted(proposal, a, "norm-part", { meanOver: k }, { channels: k, width: a.width }, statement);
  });
}

/** Numbers of channels tried: neighbours differ by little. */
const nearest = 3;
