import type { DeviceBuffer } from "../device/backend.js";
import { type ParameterBlock, type ScalarType, setScalar } from "../device/parameter-block.js";
import type { CudaBuffer } from "./memory.js";

/** A scalar, a pointer to device memory given as its type in C++, or a block of scalars held by value. */
export type FieldType = ScalarType | `${string}*` | ParameterBlock;

/** What a field is set to: a number, memory (null where the kernel need not look), or a packed block. */
export type FieldValue<Type extends FieldType> = Type extends ScalarType
  ? number
  : Type extends ParameterBlock
    ? Uint8Array
    : DeviceBuffer | null;

/**
 * The one argument of a kernel. Its struct in C++ and its bytes come from the same list, so they cannot drift; members
 * lie as C++ lays them out.
 */
export interface KernelParameters<Fields extends Readonly<Record<string, FieldType>> = Record<string, FieldType>> {
  readonly name: string;
  readonly fields: Fields;
  readonly byteLength: number;
  /** @throws RangeError when a value does not fit its type. */
  pack(values: { readonly [Name in keyof Fields]: FieldValue<Fields[Name]> }): Uint8Array<ArrayBuffer>;
}

export function kernelParameters<const Fields extends Readonly<Record<string, FieldType>>>(
  name: string,
  fields: Fields,
): KernelParameters<Fields> {
  const members: { field: string; type: FieldType; offset: number }[] = [];
  let end = 0;
  let alignment = 4;
  for (const [field, type] of Object.entries(fields)) {
    const { size, align } = extentOf(type);
    const offset = Math.ceil(end / align) * align;
    members.push({ field, type, offset });
    end = offset + size;
    alignment = Math.max(alignment, align);
  }
  const byteLength = Math.ceil(end / alignment) * alignment;
  return {
    name,
    fields,
    byteLength,
    pack(values) {
      const bytes = new Uint8Array(byteLength);
      const view = new DataView(bytes.buffer);
      for (const { field, type, offset } of members) {
        const value = (values as Record<string, unknown>)[field];
        if (typeof type === "object") bytes.set(value as Uint8Array, offset);
        else if (isScalar(type)) setScalar(view, offset, type, value as number, `${name}.${field}`);
        else view.setBigUint64(offset, BigInt((value as CudaBuffer | null)?.address ?? 0), true);
      }
      return bytes;
    },
  };
}

/** The struct in C++, with those of the blocks in it. */
export function parameterStruct({ name, fields }: KernelParameters): string {
  return struct(
    name,
    Object.entries(fields).map(([field, type]) => [field, typeName(type)]),
  );
}

/** A block of scalars in C++: 16 bytes are its alignment, to which its bytes are padded. */
export function blockStruct({ name, fields }: ParameterBlock): string {
  return struct(
    `alignas(16) ${name}`,
    Object.entries(fields).map(([field, type]) => [field, typeName(type)]),
  );
}

function struct(name: string, members: readonly (readonly [string, string])[]): string {
  return `struct ${name} {\n${members.map(([field, type]) => `  ${type} ${field};\n`).join("")}};\n`;
}

const scalars = { u32: "unsigned", i32: "int", f32: "float" } as const;

function typeName(type: FieldType): string {
  if (typeof type === "object") return type.name;
  return isScalar(type) ? scalars[type] : type;
}

function extentOf(type: FieldType): { size: number; align: number } {
  if (typeof type === "object") return { size: type.byteLength, align: 16 };
  return isScalar(type) ? { size: 4, align: 4 } : { size: 8, align: 8 };
}

function isScalar(type: string): type is ScalarType {
  return Object.hasOwn(scalars, type);
}
