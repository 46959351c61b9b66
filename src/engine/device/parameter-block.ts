/** Scalar types a parameter block may hold; each is four bytes in a kernel and in the buffer. */
export type ScalarType = "u32" | "i32" | "f32";

/**
 * One declaration of a kernel's parameters: a back end's struct and the bytes come from the same list, so they cannot
 * drift. All members are 4-byte scalars, so offsets are 4 × index everywhere; the size is padded to 16 bytes.
 */
export interface ParameterBlock<Name extends string = string> {
  readonly name: string;
  readonly fields: Readonly<Record<Name, ScalarType>>;
  readonly byteLength: number;
  /** @throws RangeError when a value does not fit its type. */
  pack(values: Readonly<Record<Name, number>>): Uint8Array<ArrayBuffer>;
}

export function parameterBlock<Name extends string>(
  name: string,
  fields: Readonly<Record<Name, ScalarType>>,
): ParameterBlock<Name> {
  const entries = Object.entries(fields) as [Name, ScalarType][];
  const byteLength = Math.ceil((entries.length * 4) / 16) * 16;
  return {
    name,
    fields,
    byteLength,
    pack(values) {
      const bytes = new Uint8Array(byteLength);
      const view = new DataView(bytes.buffer);
      entries.forEach(([field, type], i) => {
        setScalar(view, i * 4, type, values[field], `${name}.${field}`);
      });
      return bytes;
    },
  };
}

/**
 * Writes a scalar as a kernel reads it.
 * @param what names the value where it does not fit.
 * @throws RangeError when a value does not fit its type.
 */
export function setScalar(view: DataView, offset: number, type: ScalarType, value: number, what: string): void {
  if (!fits(value, type)) throw new RangeError(`${what}: ${value} is not a ${type}`);
  if (type === "f32") view.setFloat32(offset, value, true);
  else if (type === "i32") view.setInt32(offset, value, true);
  else view.setUint32(offset, value, true);
}

function fits(value: number, type: ScalarType): boolean {
  if (type === "f32") return Number.isFinite(value);
  const [low, high] = type === "i32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  return Number.isInteger(value) && value >= low && value <= high;
}
