import { createRequire } from "node:module";
import { useSoftwareVulkan } from "./software.js";

/**
 * Dawn switches for speed. Kernels guard their own indices, write workgroup memory before they read it and never divide
 * by zero, and the host validates every argument, so the guards these take away have nothing to catch.
 */
const enabled = [
  "allow_unsafe_apis",
  "skip_validation",
  "disable_robustness",
  "disable_workgroup_init",
  "disable_polyfills_on_integer_div_and_mod",
  "vulkan_enable_f16_on_nvidia",
];
/** Off, or GPU times come in steps of 65 µs. */
const disabled = ["timestamp_quantization"];

export interface NodeGpuOptions {
  /** Substring of an adapter's name, or "software". */
  readonly adapter?: string | undefined;
  /** Keep Dawn's validation and bounds checks: slower, for finding faults in kernels. */
  readonly validate?: boolean | undefined;
}

/**
 * `navigator.gpu` for Node, from the package `webgpu` (Dawn), and an adapter; SwiftShader when the machine has none.
 * @throws Error with one sentence when neither a GPU nor the software GPU can be had.
 */
export async function nodeAdapter(options: NodeGpuOptions): Promise<{ gpu: GPU; adapter: GPUAdapter }> {
  const create = await loadDawn();
  const toggles = options.validate
    ? ["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]
    : [`enable-dawn-features=${enabled.join(",")}`];
  toggles.push(`disable-dawn-features=${disabled.join(",")}`);
  const wanted = options.adapter;
  if (wanted !== undefined && wanted !== "software") toggles.push(`adapter=${wanted}`);
  if (wanted !== "software") {
    const found = await tryAdapter(create, toggles, wanted);
    if (found) return found;
  }
  const reason = await useSoftwareVulkan();
  const found = reason === undefined ? await tryAdapter(create, toggles, undefined) : undefined;
  if (found) return found;
  throw new Error(`no GPU was found, and ${reason ?? "the software GPU did not start"}`);
}

type Create = (options: string[]) => GPU;

async function loadDawn(): Promise<Create> {
  try {
    createRequire(import.meta.url).resolve("webgpu");
  } catch {
    throw new Error("the paths standard and fused need the package webgpu in Node (npm install webgpu)");
  }
  const name: string = "webgpu";
  const dawn = (await import(name)) as { create: Create };
  return dawn.create;
}

async function tryAdapter(create: Create, toggles: string[], wanted: string | undefined) {
  try {
    const gpu = create(toggles);
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    return adapter ? { gpu, adapter } : undefined;
  } catch (error) {
    if (wanted !== undefined) throw new Error(`--adapter ${wanted}: ${(error as Error).message}`);
    return undefined;
  }
}
