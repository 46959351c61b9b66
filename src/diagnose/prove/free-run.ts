import { RoundedArithmetic } from "../../spec/arithmetic.js";
import { Evaluator } from "../../spec/evaluator.js";
import type { Graph } from "../../spec/graph.js";
import { indices } from "../../spec/op.js";
import { UnitRecipe } from "../../spec/recipe.js";
import { RowTable } from "../../spec/rows.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation } from "../check/investigation.js";
import { combine } from "../explain/combine.js";
import type { FromTokens, Proof } from "./proof.js";

/** Multiply-adds that free runs may cost before they are left out: some ten seconds on one core. */
const freeRunBudget = 1e10;
const freeRuns = [
  { block: 32, reversed: false },
  { block: 16, reversed: true },
];

/** Turns token ids into text; null when the model has no tokenizer. */
export type Detokenize = ((tokens: readonly number[]) => string) | null;

/** The tokens of the recording's first step, run through `graph` with nothing but the checkpoint. */
export class FreeRun {
  readonly evaluator: Evaluator;
  readonly table = new RowTable();
  readonly lastRow: number;

  constructor(investigation: Investigation, graph: Graph, choices?: { block: number; reversed: boolean }) {
    const step = investigation.capture.steps[0]!;
    const placed = this.table.append({
      step: 0,
      seqIds: step.seq_ids,
      tokenIds: step.token_ids,
      qoIndptr: step.qo_indptr,
    });
    this.lastRow = placed.firstRow + step.qo_indptr[1]! - 1;
    const { store } = investigation.precision;
    this.evaluator = new Evaluator({
      graph,
      parameters: investigation.parameters,
      rows: this.table,
      precision: investigation.precision,
      ...(choices && {
        arithmetic: new RoundedArithmetic(choices),
        recipe: new UnitRecipe(store, investigation.book.ops),
      }),
    });
  }

  /** A value at the last row of the first sequence. */
  row(name: string): Float64Array {
    return this.evaluator.read(name, Int32Array.of(this.lastRow), "").value;
  }

  token(): number {
    return this.row("sample")[0]!;
  }
}

/**
 * Runs the model from the recording's tokens alone: as it should have gone, and with the causes in it.
 * @param notes told why a part is missing.
 */
export function runFreely(
  investigation: Investigation,
  hypotheses: readonly Hypothesis[],
  detokenize: Detokenize,
  notes: string[],
): (Pick<Proof, "repair"> & { fromTokens: FromTokens | undefined }) | undefined {
  const { config, graph } = investigation;
  const refused = whyNotRunAgain(investigation);
  if (refused !== undefined) {
    notes.push(refused);
    return undefined;
  }
  const healthy = new FreeRun(investigation, graph);
  const repairedToken = healthy.token();
  const continuation = detokenize ? detokenize(continueFrom(healthy, repairedToken, config.endTokens)) : null;
  const repair = { tokenId: repairedToken, text: detokenize ? detokenize([repairedToken]) : null, continuation };
  if (hypotheses.length === 0) return { repair, fromTokens: undefined };
  const rewritten = graph.with(combine(hypotheses));
  if (!rewritten.isComputable("sample")) {
    notes.push(
      "a cause reads a value that is computed later (left over from an earlier step): the run cannot be repeated from its tokens alone",
    );
    return { repair, fromTokens: undefined };
  }
  const recordedToken = recordedSample(investigation, healthy.lastRow);
  const tokens: number[] = [];
  let layers = { matched: 0, of: 0 };
  for (const choices of freeRuns) {
    const run = new FreeRun(investigation, rewritten, choices);
    tokens.push(run.token());
    if (choices === freeRuns[0]) layers = compareStreams(investigation, run);
    // A second order of summation is asked only where the first ends in another token: does rounding decide it?
    if (recordedToken === undefined || tokens[0] === recordedToken) break;
  }
  const reproducedToken = tokens[0]!;
  if (recordedToken === undefined)
    notes.push(
      "neither logits nor a sampled token were recorded: the reproduced token has nothing to be compared with",
    );
  else if (new Set(tokens).size > 1)
    notes.push(
      `rounding alone decides the token here: free runs that round differently end in ${[...new Set(tokens)].join(", ")}`,
    );
  const fromTokens: FromTokens | undefined =
    recordedToken === undefined
      ? undefined
      : {
          layers,
          recordedToken,
          reproducedToken,
          agreement: tokens.filter((token) => token === recordedToken).length / tokens.length,
          text: detokenize ? detokenize([reproducedToken]) : null,
        };
  return { repair, fromTokens };
}

/** Why a recording is not run again from the tokens of its first step; undefined when it can be. */
export function whyNotRunAgain({ capture, config, observations }: Investigation): string | undefined {
  const step = capture.steps[0]!;
  const perRow =
    config.layerCount *
    (2 * config.hiddenSize * (config.headCount + config.keyValueHeadCount) * config.headDim +
      3 * config.hiddenSize * config.intermediateSize);
  if (observations.rows.steps[0]!.lengths.some((length, b) => length !== step.qo_indptr[b + 1]! - step.qo_indptr[b]!))
    return "the recording starts inside a sequence: its first tokens were not recorded, so it cannot be run again from them";
  if (step.token_ids.some((token) => token >= config.vocabularySize))
    return "a token id lies outside the vocabulary: the run cannot be repeated from its tokens";
  if (perRow * step.token_ids.length * (freeRuns.length + 1) > freeRunBudget)
    return "the run from its tokens was left out: the model is too large to run again on the CPU here; every unit was reproduced from its own inputs";
  return undefined;
}

/** The token that followed on a row: sampled, or the largest recorded logit. */
export function recordedSample({ capture, observations, graph }: Investigation, row: number): number | undefined {
  const { rows } = observations;
  const { step } = rows.steps[rows.stepOf[row]!]!;
  const samples = rows.isLast(row) ? capture.samples.find((sample) => sample.step === step)?.token_ids : undefined;
  const sampled = samples?.[rows.sequenceOf[row]!];
  if (sampled !== undefined) return sampled;
  const logits = observations.output(graph.at({ what: "logits" })!.name, row)?.value;
  if (!logits) return undefined;
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Recorded streams against the free run's: the same zeros, NaN or overflow, or a magnitude within a factor of 2. */
function compareStreams({ observations, graph, config }: Investigation, run: FreeRun): { matched: number; of: number } {
  let matched = 0;
  let of = 0;
  // What every layer reads, and what the last one leaves.
  for (const layer of indices(config.layerCount + 1)) {
    const { name } = graph.streamBefore(layer);
    const recorded = observations.output(name, run.lastRow)?.value;
    if (!recorded) continue;
    of++;
    const a = magnitude(recorded);
    const b = magnitude(run.row(name));
    if (Object.is(a, b) || a === b || (a / b > 0.5 && a / b < 2)) matched++;
  }
  return { matched, of };
}

function magnitude(values: Float64Array): number {
  let largest = 0;
  for (const x of values) {
    if (!Number.isFinite(x)) return Number.NaN;
    if (Math.abs(x) > largest) largest = Math.abs(x);
  }
  return largest;
}

const continuationLength = 12;

/** Greedy continuation of a healthy run's first sequence. */
function continueFrom(run: FreeRun, first: number, endTokens: readonly number[]): number[] {
  const tokens = [first];
  const seqId = run.table.seqId[run.lastRow]!;
  while (tokens.length < continuationLength && !endTokens.includes(tokens.at(-1)!)) {
    run.evaluator.forget((name) => run.evaluator.graph.node(name).op.kind === "append");
    const { firstRow } = run.table.append({
      step: tokens.length,
      seqIds: [seqId],
      tokenIds: [tokens.at(-1)!],
      qoIndptr: [0, 1],
    });
    tokens.push(run.evaluator.read("sample", Int32Array.of(firstRow), "").value[0]!);
  }
  return tokens;
}
