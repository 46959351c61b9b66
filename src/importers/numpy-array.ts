import { contiguousStrides } from "../capture/writer.js";
import { byteWidth, type DType } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";

/** What the header of a .npy file says. */
export interface ArrayHeader {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Byte at which the elements begin. */
  readonly start: number;
  readonly byteLength: number;
}

const typeOf: Record<string, DType> = {
  "<f8": "float64",
  "<f4": "float32",
  "<f2": "float16",
  "<i8": "int64",
  "<i4": "int32",
  "<i2": "int16",
  "|i1": "int8",
  "|u1": "uint8",
  "|b1": "bool",
};
/** Bytes from the beginning that hold a header of ordinary length. */
export const headerBytes = 2 ** 16;
const maxDimensions = 8;

/**
 * Reads the header of a .npy file.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 * @param head its first bytes, at most `headerBytes`.
 * @param size of the file.
 * @throws InputError when it is no array of a known type, or its elements do not fill the file.
 */
export function readArrayHeader(head: Uint8Array, size: number, where: string): ArrayHeader {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (bytes.length < 10 || bytes.toString("latin1", 0, 6) !== "\x93NUMPY")
    throw new InputError(`${where}: expected a .npy file, found other bytes`);
  const wide = bytes[6]! >= 2;
  const start = (wide ? 12 : 10) + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  if (start > bytes.length)
    throw new InputError(`${where}: expected a header within the file and ${headerBytes} bytes`);
  const text = bytes.toString("latin1", wide ? 12 : 10, start);
  const field = (name: string, pattern: string) => new RegExp(`'${name}': ?${pattern}`).exec(text)?.[1];
  const [descr, fortran] = [field("descr", "'([^']{1,20})'"), field("fortran_order", "(True|False)")];
  const sizes = field("shape", "\\(([0-9, ]{0,200})\\)");
  if (descr === undefined || fortran === undefined || sizes === undefined)
    throw new InputError(`${where}: header: expected descr, fortran_order and shape of an array of numbers`);
  const dtype = Object.hasOwn(typeOf, descr) ? typeOf[descr] : undefined;
  if (!dtype)
    throw new InputError(
      `${where}: descr: expected one of ${Object.keys(typeOf).join(", ")}, found "${descr}": save it as float32, which holds every shorter type`,
    );
  const shape = sizes
    .split(",")
    .filter((n) => n.trim() !== "")
    .map(Number);
  if (shape.length > maxDimensions || !shape.every(Number.isSafeInteger))
    throw new InputError(`${where}: shape: expected up to ${maxDimensions} whole numbers`);
  const byteLength = shape.reduce((product, n) => product * n, byteWidth(dtype));
  if (byteLength !== size - start)
    throw new InputError(`${where}: shape and descr need ${byteLength} bytes, the file has ${size - start}`);
  const strides = fortran === "True" ? contiguousStrides([...shape].reverse()).reverse() : contiguousStrides(shape);
  return { dtype, shape, strides, start, byteLength };
}
