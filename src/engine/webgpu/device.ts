import { Pipelines } from "./pipelines.js";
import { BufferUsage, mapForReading } from "./usage.js";

export interface DeviceOptions {
  /** Substring of the adapter's name, or "software" for the software GPU. */
  readonly adapter?: string | undefined;
  /** Features not to use although present: the portable kernels run instead. */
  readonly without?: readonly DeviceFeature[] | undefined;
  /** Keep Dawn's validation and bounds checks. */
  readonly validate?: boolean | undefined;
  /** Unroll the loops that kernels mark. @default true on a GPU; the software one compiles loops ten times as fast */
  readonly unroll?: boolean | undefined;
}

export type DeviceFeature = "subgroups" | "matrix" | "timestamps";

/** Bytes and buffers of a GPU, with the few calls the engine needs. */
export class Gpu {
  readonly pipelines: Pipelines;
  readonly name: string;
  /** Whether loops that kernels mark are unrolled before compilation. */
  readonly unrolls: boolean;
  #placeholders = new Map<GPUBufferBindingType, GPUBuffer>();

  constructor(
    readonly device: GPUDevice,
    readonly info: GPUAdapterInfo,
    readonly features: ReadonlySet<DeviceFeature>,
    /** Kept reachable while the device lives: Dawn's Node binding runs on it. */
    readonly owner: GPU,
    unroll?: boolean,
  ) {
    this.name = info.device || info.description || info.vendor || "unknown GPU";
    this.pipelines = new Pipelines(this);
    this.unrolls = unroll ?? !this.isSoftware;
  }

  get isSoftware(): boolean {
    return /swiftshader|llvmpipe|lavapipe/i.test(`${this.name} ${this.info.description} ${this.info.architecture}`);
  }

  /** A zero-filled buffer for kernels and copies; sizes are rounded up to 16 bytes. */
  buffer(label: string, byteLength: number, usage: number = BufferUsage.storage): GPUBuffer {
    const size = Math.max(32, Math.ceil(byteLength / 16) * 16);
    if (size > this.device.limits.maxBufferSize) {
      throw new Error(
        `${label}: ${size} bytes, but ${this.name} allows ${this.device.limits.maxBufferSize} per buffer`,
      );
    }
    return this.device.createBuffer({
      label,
      size,
      usage: usage | BufferUsage.copyDestination | BufferUsage.copySource,
    });
  }

  /** A buffer holding `data`. */
  upload(label: string, data: ArrayBufferView<ArrayBuffer>, usage?: number): GPUBuffer {
    const buffer = this.buffer(label, data.byteLength, usage);
    this.write(buffer, 0, data);
    return buffer;
  }

  /** Writes bytes; a length that is no multiple of four is padded with zeros. */
  write(buffer: GPUBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void {
    let bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.byteLength % 4 !== 0) {
      const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
      padded.set(bytes);
      bytes = padded;
    }
    this.device.queue.writeBuffer(buffer, byteOffset, bytes);
  }

  /** Waits for the GPU and returns a copy of a buffer's bytes. */
  async read(buffer: GPUBuffer, byteOffset = 0, byteLength = buffer.size - byteOffset): Promise<ArrayBuffer> {
    const size = Math.ceil(byteLength / 4) * 4;
    const staging = this.device.createBuffer({
      size: Math.max(size, 4),
      usage: BufferUsage.copyDestination | BufferUsage.mapRead,
    });
    const encoder = this.device.createCommandEncoder();
    if (size > 0) encoder.copyBufferToBuffer(buffer, byteOffset, staging, 0, size);
    this.device.queue.submit([encoder.finish()]);
    await staging.mapAsync(mapForReading);
    const bytes = staging.getMappedRange().slice(0, byteLength);
    staging.destroy();
    return bytes;
  }

  async readFloats(buffer: GPUBuffer, offset = 0, length = buffer.size / 4 - offset): Promise<Float32Array> {
    return new Float32Array(await this.read(buffer, offset * 4, length * 4));
  }

  /** What stands in for an operand that a kernel's variant does not touch. */
  placeholder(type: GPUBufferBindingType): GPUBuffer {
    let buffer = this.#placeholders.get(type);
    if (!buffer) {
      const usage = type === "uniform" ? BufferUsage.uniform : BufferUsage.storage;
      buffer = this.buffer(`placeholder ${type}`, 256, usage);
      this.#placeholders.set(type, buffer);
    }
    return buffer;
  }

  destroy(): void {
    this.device.destroy();
  }
}

/**
 * Opens a GPU: `navigator.gpu` in a browser, Dawn in Node, SwiftShader where a machine has no GPU. Limits and optional
 * features are requested as the adapter has them; nothing needs any of them.
 * @throws Error in one sentence when there is no adapter.
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Gpu> {
  const { gpu, adapter } = await findAdapter(options);
  const wanted: GPUFeatureName[] = [];
  const features = new Set<DeviceFeature>();
  const has = (name: string) => adapter.features.has(name as GPUFeatureName);
  const without = new Set(options.without);
  const use = (feature: DeviceFeature, names: string[]) => {
    if (without.has(feature) || !names.every(has)) return;
    features.add(feature);
    for (const name of names) wanted.push(name as GPUFeatureName);
  };
  if (gpu.wgslLanguageFeatures.has("subgroup_id")) use("subgroups", ["subgroups"]);
  if (hasMatrixConfiguration(adapter)) {
    use("matrix", ["subgroups", "shader-f16", "chromium-experimental-subgroup-matrix"]);
  }
  use("timestamps", ["timestamp-query"]);
  const { limits } = adapter;
  const device = await adapter.requestDevice({
    requiredFeatures: [...new Set(wanted)],
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
    },
  });
  return new Gpu(device, adapter.info, features, gpu, options.unroll);
}

/** f16 × f16 → f32 in 16 × 16 × 16 by subgroups of 32: what `gemm-matrix.wgsl` is written for. */
function hasMatrixConfiguration(adapter: GPUAdapter): boolean {
  const info = adapter.info as GPUAdapterInfo & {
    subgroupMatrixConfigs?: { componentType: string; resultComponentType: string; M: number; N: number; K: number }[];
  };
  return (
    info.subgroupMinSize === 32 &&
    info.subgroupMaxSize === 32 &&
    (info.subgroupMatrixConfigs ?? []).some(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16,
    )
  );
}

async function findAdapter(options: DeviceOptions): Promise<{ gpu: GPU; adapter: GPUAdapter }> {
  const gpu = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (!gpu) {
    const { nodeAdapter } = await import("./node-gpu.js");
    return nodeAdapter(options);
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("this browser has WebGPU but offers no adapter");
  return { gpu, adapter };
}
