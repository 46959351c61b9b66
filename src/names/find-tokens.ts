import { onePiece } from "../capture/pieces.js";
import { TensorReader } from "../capture/tensor-reader.js";
import type { Dump, DumpTensor, TokenTensors } from "../importers/dump.js";
import { readIntegers, tensorAt } from "../importers/token-tensors.js";
import type { ModelConfig } from "../spec/models/config.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import { floatFormat, roundTo } from "../tensor/dtype.js";

/** Where a dump's tokens come from. */
export interface FoundTokens {
  readonly tokens?: TokenTensors | undefined;
  readonly token_ids?: Record<string, number[]> | undefined;
  /** For people. */
  readonly evidence: string;
  readonly isSure: boolean;
}

const tokenNames = /(^|[._/])(input_ids|token_ids|input_tokens|tokens|ids)$/i;
const positionNames = /(^|[._/])(position_ids|positions|pos_ids)$/i;
const keyColumns = 8;
const rowsPerRead = 4096;
/** Tensors that are held against the embedding table. */
const maxCandidates = 64;

/**
 * The tokens of a dump: what its format or a name says, else the integers of the only tensor that can be tokens, else the
 * rows of the embedding table whose bits a tensor holds.
 */
export function findTokens(dump: Dump, config: ModelConfig, parameters: ParameterReader): FoundTokens | undefined {
  if (dump.tokens && dump.tensors.some(({ name }) => name === dump.tokens!.input_ids))
    return { tokens: dump.tokens, evidence: "its format", isSure: true };
  const names = [...new Set(dump.tensors.filter(isIntegers).map(({ name }) => name))];
  const named = names.filter((name) => tokenNames.test(name));
  if (named.length === 1 && !dump.steps) {
    const positions = names.find((name) => positionNames.test(name));
    const mask = dump.tensors.find(({ name }) => /(^|[._/])attention_mask$/.test(name))?.name;
    return {
      tokens: { input_ids: named[0]!, positions, attention_mask: mask },
      evidence: "its name",
      isSure: true,
    };
  }
  const byRows = byEmbedding(dump, config, parameters);
  const fitting = names.filter((name) => {
    const tensor = dump.tensors.find((each) => each.name === name)!;
    const { values } = readIntegers(dump, tensor);
    const known = byRows?.[String(tensor.step)];
    return known ? values.join() === known.join() : values.every((id) => id >= 0 && id < config.vocabularySize);
  });
  if (fitting.length === 1 && !dump.steps)
    return {
      tokens: { input_ids: fitting[0]! },
      evidence: byRows ? "the embeddings have its rows" : "no other tensor can hold tokens",
      isSure: byRows !== undefined,
    };
  return byRows && { token_ids: byRows, evidence: "rows of the embedding table", isSure: true };
}

function isIntegers({ dtype, shape }: DumpTensor): boolean {
  return (
    floatFormat(dtype) === undefined && dtype !== "bool" && shape.length >= 1 && shape.length <= 2 && !shape.includes(0)
  );
}

/** A row of a tensor that may be a row of the embedding table. */
interface WantedRow {
  readonly tensor: DumpTensor;
  readonly row: number;
  readonly value: Float64Array;
}

/** Tokens of each step by the first tensor all of whose rows are rows of the embedding table, bit for bit. */
function byEmbedding(
  dump: Dump,
  config: ModelConfig,
  parameters: ParameterReader,
): Record<string, number[]> | undefined {
  const found: Record<string, number[]> = {};
  const steps = new Set(dump.tensors.map(({ step }) => step));
  const candidates = [...steps].flatMap((step) =>
    dump.tensors
      .filter((tensor) => tensor.step === step && floatFormat(tensor.dtype))
      .filter(({ shape }) => shape.at(-1) === config.hiddenSize)
      .filter((tensor) => rowCount(dump, tensor) !== undefined)
      .slice(0, maxCandidates),
  );
  const ids = new Map(candidates.map((tensor) => [tensor, new Array<number>(rowCount(dump, tensor)!).fill(-1)]));
  lookUp(candidates, ids, config, parameters);
  for (const tensor of candidates) {
    const tokens = ids.get(tensor)!;
    if (tokens.every((id) => id >= 0)) found[String(tensor.step)] ??= tokens;
  }
  return Object.keys(found).length > 0 ? found : undefined;
}

/** Finds the row of the embedding table that each row of each tensor is. */
function lookUp(
  candidates: readonly DumpTensor[],
  ids: ReadonlyMap<DumpTensor, number[]>,
  { hiddenSize, vocabularySize, embeddingScale }: ModelConfig,
  parameters: ParameterReader,
): void {
  const wanted = new Map<string, WantedRow[]>();
  for (const each of candidates.flatMap((tensor) => rowsOf(tensor, ids.get(tensor)!.length, hiddenSize))) {
    const key = keyOf(each.value);
    const list = wanted.get(key);
    if (list) list.push(each);
    else wanted.set(key, [each]);
  }
  const forms = [...new Set(candidates.map(({ dtype }) => dtype))].flatMap((dtype) =>
    [...new Set([1, embeddingScale, roundTo(embeddingScale, dtype)])].map((scale) => ({ dtype, scale })),
  );
  for (let first = 0; first < vocabularySize; first += rowsPerRead) {
    const count = Math.min(rowsPerRead, vocabularySize - first);
    const table = parameters.rows("model.embed_tokens.weight", first, count);
    for (let i = 0; i < count; i++) {
      const row = table.subarray(i * hiddenSize, (i + 1) * hiddenSize);
      for (const { dtype, scale } of forms) {
        const as = (x: number) => roundTo(roundTo(x, dtype) * scale, dtype);
        for (const { tensor, row: at, value } of wanted.get(keyOf(row.subarray(0, keyColumns).map(as))) ?? []) {
          const own = ids.get(tensor)!;
          if (tensor.dtype === dtype && own[at] === -1 && row.every((x, c) => as(x) === value[c])) own[at] = first + i;
        }
      }
    }
  }
}

function rowsOf(tensor: DumpTensor, rows: number, columns: number): WantedRow[] {
  const reader = new TensorReader();
  const { source, dtype, strides } = tensor;
  return Array.from({ length: rows }, (_, row) => {
    const value = new Float64Array(columns);
    reader.row(source, dtype, tensor.first + row * strides.at(-2)!, onePiece(columns, strides.at(-1)!), value, 0);
    return { tensor, row, value };
  });
}

/** Rows of a tensor of vectors that may be one per token; undefined where it has another shape, or not as many as its step. */
function rowCount(dump: Dump, { shape, strides, step }: DumpTensor): number | undefined {
  if (
    shape.length < 2 ||
    shape.length > 3 ||
    (shape.length === 3 && shape[0] !== 1 && strides[0] !== shape[1]! * strides[1]!)
  )
    return undefined;
  const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
  const given = dump.steps?.find((each) => each.step === step)?.qo_indptr.at(-1);
  return rows > 0 && rows <= 2 ** 16 && (given === undefined || given === rows) ? rows : undefined;
}

function keyOf(row: Float64Array): string {
  return row.subarray(0, keyColumns).join();
}

/** Whether a tensor says what tokens are, and is no value. */
export function isTokenTensor(dump: Dump, { tokens }: FoundTokens, name: string): boolean {
  if (!tokens) return false;
  return (
    Object.values(tokens).includes(name) &&
    tensorAt(dump, name, dump.tensors.find((t) => t.name === name)!.step) !== undefined
  );
}
