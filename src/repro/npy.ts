/** Numbers with a shape, as a `.npy` file holds them. */
export interface NumberArray {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly values: Float64Array;
}

/** Bytes that a header is padded to, so that the numbers after it are aligned. */
const alignment = 64;

/**
 * The bytes of a `.npy` file, format 1.0: float32 where it holds every number exactly, else float64, little-endian, C order.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
export function npyBytes({ shape, values }: NumberArray): Uint8Array {
  const narrow = values.every((x) => Number.isNaN(x) || Math.fround(x) === x);
  const dimensions = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${narrow ? "<f4" : "<f8"}', 'fortran_order': False, 'shape': (${dimensions}), }`;
  const prelude = 10;
  const length = Math.ceil((prelude + text.length + 1) / alignment) * alignment - prelude;
  const width = narrow ? 4 : 8;
  const bytes = new Uint8Array(prelude + length + values.length * width);
  const view = new DataView(bytes.buffer);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0]);
  view.setUint16(8, length, true);
  bytes.set(new TextEncoder().encode(`${text.padEnd(length - 1)}\n`), prelude);
  for (let i = 0; i < values.length; i++) {
    const at = prelude + length + i * width;
    if (narrow) view.setFloat32(at, values[i]!, true);
    else view.setFloat64(at, values[i]!, true);
  }
  return bytes;
}
