import { decode } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { SafetensorsFile } from "../tensor/safetensors.js";
import type { Capture, DenseRecord } from "./capture.js";
import { type PaddedStep, withoutPads } from "./padding.js";
import { contiguousStrides } from "./writer.js";

const maxTokens = 2 ** 22;

/**
 * Opens a plain `.safetensors` file of Hugging Face module outputs as a one-step capture: names as in
 * `model.named_modules()`, plus `…q_rope`, `…k_rope`, `…o_proj.input` and `input_ids` [batch, tokens]. Where an
 * `attention_mask` [batch, tokens] marks padding, the step's rows are the real tokens alone.
 * @throws InputError when it is no such file.
 */
export function openPlainCapture(path: string): Capture {
  const file = new SafetensorsFile(path);
  try {
    const { step, padding } = readStep(file);
    const records: DenseRecord[] = [];
    const inputNames = new Set(["input_ids", "attention_mask", "position_ids"]);
    for (const entry of [...file.entries.values()].sort((a, b) => a.start - b.start)) {
      if (inputNames.has(entry.name)) continue;
      if (entry.shape.length === 0 || entry.shape.includes(0)) continue;
      const view = {
        storage: entry.name,
        epoch: 0,
        dtype: entry.dtype,
        shape: [...entry.shape],
        strides: contiguousStrides(entry.shape),
        offset: 0,
      };
      records.push({
        step: 0,
        name: entry.name,
        role: "output",
        by: undefined,
        view,
        source: { file, entry },
        order: records.length,
      });
    }
    if (records.length === 0)
      throw new InputError(`${path}: expected recorded module outputs beside input_ids, found none`);
    const dims = { "*.q_rope": "b h t d", "*.k_rope": "b h t d" };
    const manifest = { format: "faultline-capture" as const, version: 1 as const, dims };
    return {
      path,
      kind: "plain",
      manifest,
      steps: [step],
      paddings: padding && new Map([[step.step, padding]]),
      samples: [],
      records,
      skipped: [],
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

function integers(file: SafetensorsFile, name: string): { values: number[]; shape: readonly number[] } {
  const entry = file.entry(name);
  if (!/^(u?int|bool)/.test(entry.dtype))
    throw new InputError(`${file.path}: ${name}: expected integers, found ${entry.dtype}`);
  if (entry.byteLength > maxTokens * 8)
    throw new InputError(`${file.path}: ${name}: expected at most ${maxTokens} tokens`);
  if (entry.shape.length < 1 || entry.shape.length > 2 || entry.shape.includes(0)) {
    throw new InputError(`${file.path}: ${name}: expected shape [batch, tokens], found [${entry.shape.join(", ")}]`);
  }
  return { values: Array.from(decode(file.readBytes(entry), entry.dtype)), shape: entry.shape };
}

function readStep(file: SafetensorsFile): PaddedStep {
  if (!file.entries.has("input_ids")) {
    throw new InputError(
      `${file.path}: expected a tensor "input_ids" with the tokens of the run, found none: is this a recording of module outputs?`,
    );
  }
  const { values: ids, shape } = integers(file, "input_ids");
  const batch = shape.length === 2 ? shape[0]! : 1;
  const length = ids.length / batch;
  const whole: PaddedStep["step"] = {
    event: "step",
    step: 0,
    seq_ids: Array.from({ length: batch }, (_, b) => b),
    token_ids: ids,
    qo_indptr: Array.from({ length: batch + 1 }, (_, b) => b * length),
  };
  if (file.entries.has("position_ids")) {
    const { values, shape: given } = integers(file, "position_ids");
    if (values.length !== ids.length && values.length !== length) {
      throw new InputError(
        `${file.path}: position_ids: expected the ${length} positions of a sequence or one per token of input_ids, found shape [${given.join(", ")}]`,
      );
    }
    whole.positions = values.length === ids.length ? values : ids.map((_, i) => values[i % length]!);
  }
  const masked = file.entries.has("attention_mask")
    ? withoutPads(whole, readMask(file, batch, length), `${file.path}: attention_mask`)
    : { step: whole, padding: undefined };
  // What stands at a padded place is nobody's token.
  if (masked.step.token_ids.some((id) => id < 0))
    throw new InputError(`${file.path}: input_ids: expected token ids of 0 or more`);
  return masked;
}

/** The mask of a padded batch, [batch, tokens]: 1 for a token, 0 for padding, in integers, booleans or floats. */
function readMask(file: SafetensorsFile, batch: number, length: number): Float64Array {
  const entry = file.entry("attention_mask");
  const where = `${file.path}: attention_mask`;
  const expected = `1 for a token and 0 for padding in the shape of input_ids, [${batch}, ${length}]`;
  if (entry.shape.length > 2) {
    throw new InputError(
      `${where}: expected ${expected}, found a mask of scores of shape [${entry.shape.join(", ")}], which does not say which tokens are padding`,
    );
  }
  const [rows, columns] = entry.shape.length === 2 ? entry.shape : [1, entry.shape[0] ?? 0];
  if (rows !== batch || columns !== length)
    throw new InputError(`${where}: expected ${expected}, found shape [${entry.shape.join(", ")}]`);
  const mask = decode(file.readBytes(entry), entry.dtype);
  const other = mask.find((value) => value !== 0 && value !== 1);
  if (other !== undefined) throw new InputError(`${where}: expected ${expected}, found ${other}`);
  return mask;
}
