import { type DeviceFeature, Gpu } from "./gpu.js";

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
