import type { GraphNode } from "../../spec/graph.js";
import { rope } from "../../spec/ops/rope.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import { ranges } from "../check/extent.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { ropeCauses } from "./rope.js";
import { ropeFrequencyCauses } from "./rope-frequencies.js";
import { positionCauses, signed } from "./rope-positions.js";
import { replaced } from "./transform.js";

/** Turn of every pair of every row: Σ over heads of conj(before) · after, as [rows, pairs]. */
interface Turns {
  readonly real: Float64Array;
  readonly imaginary: Float64Array;
  readonly pairs: number;
}

const hypothesis = hypothesesOf({ ...ropeCauses, ...ropeFrequencyCauses, ...positionCauses });

/**
 * Positions and frequencies read off the recorded rotation itself: the angle between each pair before and after. Even
 * pairs decide positions and odd ones judge; even rows decide frequencies and odd ones judge.
 */
export const rotationSearches: readonly Search[] = [
  {
    causes: ["position-offset", "rope-missing", "positions-wrong"],
    stage: "large",
    appliesTo: isReadable,
    rewrites: (proposal) =>
      fittedPositions(proposal, attributesOf(proposal), turnsOf(proposal, attributesOf(proposal))),
  },
  {
    causes: ["rope-theta", "rope-linear-scale", "rope-frequencies"],
    stage: "large",
    appliesTo: isReadable,
    rewrites(proposal) {
      const a = attributesOf(proposal);
      const turns = turnsOf(proposal, a);
      return [...fittedTheta(proposal, a, turns), ...fittedFrequencies(proposal, a, turns)];
    },
  },
];

function attributesOf({ site }: Proposal): RopeAttributes {
  return site.op.attributes as unknown as RopeAttributes;
}

/** Whether a rotation by halves was recorded in all of its channels. */
function isReadable(proposal: Proposal): boolean {
  const { site, finding } = proposal;
  if (site.op.kind !== "rope" || !isRecorded(proposal)) return false;
  return attributesOf(proposal).pairing === "half" && finding.comparison.columns.length === site.columns;
}

function turnsOf({ site, finding, investigation }: Proposal, a: RopeAttributes): Turns {
  const { rows, observed } = finding.comparison;
  const before = investigation.evaluator.read(site.inputs[0]!, rows, site.name).value;
  const pairs = a.rotaryDim / 2;
  const real = new Float64Array(rows.length * pairs);
  const imaginary = new Float64Array(rows.length * pairs);
  for (let r = 0; r < rows.length; r++) {
    for (let head = 0; head < site.columns; head += a.headDim) {
      for (let j = 0; j < pairs; j++) {
        const i = r * site.columns + head + j;
        const [x, y, u, v] = [before[i]!, before[i + pairs]!, observed[i]!, observed[i + pairs]!];
        real[r * pairs + j]! += x * u + y * v;
        imaginary[r * pairs + j]! += x * v - y * u;
      }
    }
  }
  return { real, imaginary, pairs };
}

const largestOffset = 4096;

/** The whole position whose angles fit each row best, among those near the true one and those near 0. */
function fittedPositions(
  { site, finding, investigation }: Proposal,
  a: RopeAttributes,
  { real, imaginary, pairs }: Turns,
): Hypothesis[] {
  const table = investigation.observations.rows;
  const { rows } = finding.comparison;
  const found = new Map<number, number>();
  const last = Math.min(investigation.config.maxPositions, largestOffset);
  const best = new Float64Array(rows.length).fill(-Infinity);
  const cosines = new Float64Array(pairs);
  const sines = new Float64Array(pairs);
  const { re, im } = unitTurns({ real, imaginary, pairs });
  for (let position = -64; position < last; position++) {
    for (let j = 0; j < pairs; j += 2) {
      cosines[j] = Math.cos(position * a.inverseFrequencies[j]!);
      sines[j] = Math.sin(position * a.inverseFrequencies[j]!);
    }
    for (let r = 0; r < rows.length; r++) {
      let score = 0;
      for (let j = 0; j < pairs; j += 2) score += re[r * pairs + j]! * cosines[j]! + im[r * pairs + j]! * sines[j]!;
      if (score <= best[r]! + 1e-9) continue;
      best[r] = score;
      found.set(rows[r]!, position);
    }
  }
  const offsets = new Set([...found].map(([row, position]) => position - table.rotaryPosition(row)));
  const [offset] = offsets;
  if (offsets.size === 1 && Math.abs(offset!) <= 4) return [];
  const uniform = offsets.size === 1 && offset !== undefined;
  const positionOf = (row: number, position: number) => (uniform ? position + offset : (found.get(row) ?? position));
  const wrong = [...found].filter(([row, position]) => position !== table.rotaryPosition(row));
  if (wrong.length === 0) return [];
  const where = ranges(wrong.map(([row]) => row));
  const unrotated = !uniform && wrong.every(([, position]) => position === 0);
  const shifts = new Set(wrong.map(([row, position]) => position - table.rotaryPosition(row)));
  const [shift] = shifts;
  const described = uniform
    ? {
        cause: "position-offset" as const,
        parameters: { offset },
        statement: `RoPE positions are off by ${signed(offset)}`,
      }
    : unrotated
      ? { cause: "rope-missing" as const, parameters: { rows: where }, statement: `rows ${where} are not rotated` }
      : shifts.size === 1
        ? {
            cause: "position-offset" as const,
            parameters: { offset: shift!, rows: where },
            statement: `RoPE positions of rows ${where} are off by ${signed(shift!)}`,
          }
        : {
            cause: "positions-wrong" as const,
            parameters: { positions: Object.fromEntries(wrong.slice(0, 32).map(([row, p]) => [String(row), p])) },
            statement: `${wrong.length} rows are rotated to other positions than theirs (row ${wrong[0]![0]}: ${wrong[0]![1]}, not ${table.rotaryPosition(wrong[0]![0])})`,
          };
  const { cause, parameters, statement } = described;
  return [
    hypothesis(cause, site, [replaced(site, { op: rope({ ...a, positionOf }) })], {
      fitted: uniform || unrotated || shifts.size === 1 ? 1 : wrong.length,
      heldOut: (_, c) => ((finding.comparison.columns[c]! % a.headDim) % pairs) % 2 === 1,
      // Single rows are another matter than a rotation that nobody does.
      kind: "metadata",
      parameters,
      statement,
      group: uniform ? `position-offset ${JSON.stringify({ offset })}` : `${cause} ${shifts.size === 1 ? shift : ""}`,
    }),
  ];
}

/** The turns without their magnitude: every pair counts alike. */
function unitTurns({ real, imaginary }: Turns): { re: Float64Array; im: Float64Array } {
  const size = real.map((x, i) => Math.hypot(x, imaginary[i]!) || 1);
  return { re: real.map((x, i) => x / size[i]!), im: imaginary.map((x, i) => x / size[i]!) };
}

const passes = 6;

/** A theta on no list: the one whose angles leave the smallest phases in even rows, rounded as people write it. */
function fittedTheta({ site, finding, investigation }: Proposal, a: RopeAttributes, turns: Turns): Hypothesis[] {
  const { real, imaginary, pairs } = turns;
  const table = investigation.observations.rows;
  const { rows } = finding.comparison;
  const expected = investigation.config.ropeTheta;
  let log = Math.log(expected);
  let error = Infinity;
  for (let pass = 0; pass < passes; pass++) {
    let cross = 0;
    let power = 0;
    let left = 0;
    let count = 0;
    for (let r = 0; r < rows.length; r += 2) {
      const position = table.rotaryPosition(rows[r]!);
      for (let j = 1; j < pairs; j++) {
        const i = r * pairs + j;
        const frequency = Math.exp((-log * j) / pairs);
        const turned = Math.atan2(imaginary[i]!, real[i]!) - position * frequency;
        const phase = turned - 2 * Math.PI * Math.round(turned / (2 * Math.PI));
        // Pairs that turned further may be whole turns off: at first only slow ones count.
        if (position * frequency > 2 ** (pass + 1)) continue;
        const slope = (-position * frequency * j) / pairs;
        cross += slope * phase;
        power += slope * slope;
        left += phase * phase;
        count++;
      }
    }
    if (!(power > 0)) return [];
    log += cross / power;
    error = Math.sqrt(left / count / power);
  }
  const theta = Math.exp(log);
  const near = [2, 3, 4]
    .map((digits) => Number(theta.toPrecision(digits)))
    .find((t) => Math.abs(Math.log(t) - log) < 4 * error);
  if (near === undefined || near === expected || !(near > 1)) return [];
  const inverseFrequencies = Float64Array.from({ length: pairs }, (_, j) => near ** (-j / pairs));
  return [
    hypothesis("rope-theta", site, [replaced(site, { op: rope({ ...a, inverseFrequencies }) })], {
      fitted: 1,
      heldOut: (r) => r % 2 === 1,
      parameters: { theta: near, expected },
      statement: `RoPE uses theta ${short(near)} where the config says ${short(expected)}`,
      group: `rope-theta ${near}`,
    }),
  ];
}

/** Angle per position of each pair, from neighbouring rows first and refined over the whole length. */
function fittedFrequencies(
  { site, finding, investigation }: Proposal,
  a: RopeAttributes,
  { real, imaginary, pairs }: Turns,
): Hypothesis[] {
  const table = investigation.observations.rows;
  const { rows } = finding.comparison;
  const fitted = new Float64Array(pairs);
  for (let j = 0; j < pairs; j++) {
    let re = 0;
    let im = 0;
    for (let r = 0; r + 1 < rows.length; r++) {
      if (table.rotaryPosition(rows[r + 1]!) - table.rotaryPosition(rows[r]!) !== 1) continue;
      const [p, q] = [r * pairs + j, (r + 1) * pairs + j];
      const size = Math.hypot(real[p]!, imaginary[p]!) * Math.hypot(real[q]!, imaginary[q]!) || 1;
      re += (real[p]! * real[q]! + imaginary[p]! * imaginary[q]!) / size;
      im += (real[p]! * imaginary[q]! - imaginary[p]! * real[q]!) / size;
    }
    let frequency = Math.atan2(im, re);
    for (let pass = 0; pass < 3; pass++) {
      let cross = 0;
      let power = 0;
      for (let r = 0; r < rows.length; r += 2) {
        const position = table.rotaryPosition(rows[r]!);
        const turned = Math.atan2(imaginary[r * pairs + j]!, real[r * pairs + j]!) - position * frequency;
        const error = turned - 2 * Math.PI * Math.round(turned / (2 * Math.PI));
        cross += position * error;
        power += position * position;
      }
      if (power > 0) frequency += cross / power;
    }
    fitted[j] = frequency;
  }
  if (fitted.some((f) => !Number.isFinite(f))) return [];
  return [frequencyHypothesis(site, a, fitted, investigation.config.ropeTheta)];
}

function frequencyHypothesis(site: GraphNode, a: RopeAttributes, fitted: Float64Array, theta: number): Hypothesis {
  const wide = [...fitted.keys()].filter((j) => a.inverseFrequencies[j]! > 1e-3);
  const ratios = wide.map((j) => a.inverseFrequencies[j]! / fitted[j]!).sort((p, q) => p - q);
  const factor = ratios[ratios.length >> 1]!;
  const linear = ratios.every((ratio) => Math.abs(ratio / factor - 1) < 0.02);
  const slopes = wide
    .filter((j) => j > 0)
    .map((j) => (-Math.log(fitted[j]!) / j) * fitted.length)
    .sort((p, q) => p - q);
  const base = Math.exp(slopes[slopes.length >> 1] ?? 0);
  const geometric =
    !linear && slopes.length > 0 && slopes.every((slope) => Math.abs(slope / Math.log(base) - 1) < 0.02);
  const cause = linear ? "rope-linear-scale" : geometric ? "rope-theta" : "rope-frequencies";
  const statement = linear
    ? `RoPE angles are divided by ${short(Number(factor.toPrecision(3)))}`
    : geometric
      ? `RoPE uses a theta near ${short(Number(base.toPrecision(2)))} where the config says ${short(theta)}`
      : "RoPE uses other frequencies than the config's";
  return hypothesis(cause, site, [replaced(site, { op: rope({ ...a, inverseFrequencies: fitted }) })], {
    fitted: fitted.length,
    heldOut: (r) => r % 2 === 1,
    parameters: linear
      ? { factor: Number(factor.toPrecision(3)) }
      : geometric
        ? { theta: Number(base.toPrecision(2)), expected: theta }
        : { first: Number(fitted[0]!.toPrecision(4)) },
    statement,
  });
}
