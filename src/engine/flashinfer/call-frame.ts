import type { Koffi } from "../cuda/driver-library.js";
import { HostMemory } from "./host-memory.js";
import { denseStrides, type ElementType, elementTypes, type ObjectValue, type Value } from "./values.js";

/** Types of a TVMFFIAny: 16 bytes, the type in the first four, the payload in the last eight. */
const anyTypes = { none: 0, int: 1, bool: 2, float: 3, tensor: 7 } as const;
/** From here on a type is that of an object with a count of its holders. */
const firstObject = 64;
/** kDLCPU and kDLCUDA */
const devices = { host: 1, device: 2 } as const;
const anyBytes = 16;
const tensorBytes = 48;

/**
 * Arguments and result of one call in the layout of tvm-ffi. The library keeps nothing of them after the call, so that one
 * frame serves all calls, one after the other.
 */
export class CallFrame {
  #memory: HostMemory;

  constructor(readonly koffi: Koffi) {
    this.#memory = new HostMemory(koffi, 4096);
  }

  /** Address of the result, which is none before the call. */
  get resultAt(): number {
    return this.#memory.address;
  }

  get argumentsAt(): number {
    return this.#memory.address + anyBytes;
  }

  /** The object that a call has made, or undefined when it made none. */
  get result(): ObjectValue | undefined {
    const type = this.#memory.view.getInt32(0, true);
    if (type < firstObject) return undefined;
    return { kind: "object", type, handle: Number(this.#memory.view.getBigUint64(8, true)) };
  }

  pack(values: readonly Value[]): void {
    let end = anyBytes * (1 + values.length);
    const needed = end + values.reduce((sum, value) => sum + extraBytes(value), 0);
    if (needed > this.#memory.bytes.length) {
      this.#memory.free();
      this.#memory = new HostMemory(this.koffi, 2 * needed);
    }
    this.#memory.bytes.fill(0, 0, needed);
    values.forEach((value, i) => {
      end = this.#packOne(value, anyBytes * (1 + i), end);
    });
  }

  free(): void {
    this.#memory.free();
  }

  /** @returns where free memory begins. */
  #packOne(value: Value, at: number, end: number): number {
    const { view } = this.#memory;
    const set = (type: number) => view.setInt32(at, type, true);
    if (value === null) return end;
    if (typeof value === "boolean") {
      set(anyTypes.bool);
      view.setBigInt64(at + 8, value ? 1n : 0n, true);
      return end;
    }
    switch (value.kind) {
      case "int":
        set(anyTypes.int);
        view.setBigInt64(at + 8, BigInt(value.value), true);
        return end;
      case "float":
        set(anyTypes.float);
        view.setFloat64(at + 8, value.value, true);
        return end;
      case "object":
        set(value.type);
        view.setBigUint64(at + 8, BigInt(value.handle), true);
        return end;
      case "numbers": {
        const { numbers } = value;
        const data = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
        this.#memory.bytes.set(data, end);
        const address = this.#memory.address + end;
        const shape = [numbers.length];
        return this.#tensor(at, aligned(end + data.length), { device: "host", address, dtype: "int32", shape });
      }
      case "host": {
        const { address, dtype, length } = value;
        return this.#tensor(at, end, { device: "host", address, dtype, shape: [length] });
      }
      case "device":
        return this.#tensor(at, end, { ...value, device: "device" });
    }
  }

  /** A DLTensor at `end`, and its address as the argument. */
  #tensor(
    at: number,
    end: number,
    tensor: {
      readonly device: keyof typeof devices;
      readonly address: number;
      readonly dtype: ElementType;
      readonly shape: readonly number[];
      readonly strides?: readonly number[];
    },
  ): number {
    const { view, address: base } = this.#memory;
    const { device, address, dtype, shape, strides = denseStrides(shape) } = tensor;
    const { code, bits } = elementTypes[dtype];
    const shapeAt = end + tensorBytes;
    const stridesAt = shapeAt + 8 * shape.length;
    view.setInt32(at, anyTypes.tensor, true);
    view.setBigUint64(at + 8, BigInt(base + end), true);
    view.setBigUint64(end, BigInt(address), true);
    view.setInt32(end + 8, devices[device], true);
    view.setInt32(end + 16, shape.length, true);
    view.setUint8(end + 20, code);
    view.setUint8(end + 21, bits);
    view.setUint16(end + 22, 1, true);
    view.setBigUint64(end + 24, BigInt(base + shapeAt), true);
    view.setBigUint64(end + 32, BigInt(base + stridesAt), true);
    shape.forEach((size, k) => {
      view.setBigInt64(shapeAt + 8 * k, BigInt(size), true);
      view.setBigInt64(stridesAt + 8 * k, BigInt(strides[k]!), true);
    });
    return stridesAt + 8 * shape.length;
  }
}

function aligned(byte: number): number {
  return Math.ceil(byte / 16) * 16;
}

/** Most bytes that a value takes beside its TVMFFIAny. */
function extraBytes(value: Value): number {
  if (value === null || typeof value === "boolean") return 0;
  switch (value.kind) {
    case "device":
      return tensorBytes + 16 * value.shape.length;
    case "host":
      return tensorBytes + 16;
    case "numbers":
      return tensorBytes + 16 + aligned(value.numbers.byteLength);
    default:
      return 0;
  }
}
