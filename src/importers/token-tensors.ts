import { byteWidth, elementReader } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import type { Dump, DumpTensor } from "./dump.js";

const maxElements = 2 ** 22;

/** A list of whole numbers that a dump holds, row by row. */
export interface IntegerTensor {
  readonly values: readonly number[];
  readonly shape: readonly number[];
}

/**
 * The whole numbers of a tensor of tokens, positions, lengths or a mask.
 * @throws InputError when it holds anything else, or too many.
 */
export function readIntegers(dump: Pick<Dump, "path">, tensor: DumpTensor): IntegerTensor {
  const { name, dtype, shape, strides, first, source } = tensor;
  const where = `${dump.path}: ${name}`;
  const size = shape.reduce((product, n) => product * n, 1);
  if (shape.length < 1 || shape.length > 2 || size === 0)
    throw new InputError(`${where}: expected shape [tokens] or [batch, tokens], found [${shape.join(", ")}]`);
  if (size > maxElements) throw new InputError(`${where}: expected at most ${maxElements} tokens`);
  const [columns, columnStride] = [shape.at(-1)!, strides.at(-1)!];
  const [rows, rowStride] = shape.length === 2 ? [shape[0]!, strides[0]!] : [1, 0];
  const width = byteWidth(dtype);
  const reach = (rows - 1) * rowStride + (columns - 1) * columnStride + 1;
  if (reach > 2 * maxElements) throw new InputError(`${where}: expected its elements close to each other`);
  const bytes = source.file.readBytes(source.entry, first * width, reach * width);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = elementReader(dtype);
  const values = Array.from({ length: size }, (_, i) =>
    read(view, (Math.floor(i / columns) * rowStride + (i % columns) * columnStride) * width),
  );
  const other = values.find((value) => !Number.isSafeInteger(value));
  if (other !== undefined) throw new InputError(`${where}: expected whole numbers, found ${other}`);
  return { values, shape };
}

/** The tensor of a name in a step. */
export function tensorAt(dump: Dump, name: string | undefined, step: number): DumpTensor | undefined {
  return name === undefined ? undefined : dump.tensors.find((tensor) => tensor.step === step && tensor.name === name);
}
