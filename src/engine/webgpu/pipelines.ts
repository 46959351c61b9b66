import type { DeviceBuffer } from "../device/backend.js";
import type { Gpu } from "./gpu.js";
import { kernelSource } from "./kernel-source.js";
import { type KernelRequest, specialise } from "./specialise.js";
import { computeStage } from "./usage.js";

/** Memory of this device. */
export type Operand = DeviceBuffer;

/** A compiled kernel; operands are bound by the names they have in its WGSL. */
export class Kernel {
  constructor(
    readonly name: string,
    readonly pipeline: GPUComputePipeline,
    readonly gpu: Gpu,
    readonly bindings: readonly Binding[],
  ) {}

  /**
   * Operands a variant does not touch may be left out.
   * @throws Error when an operand's name is not one of the kernel's.
   */
  bind(operands: Readonly<Record<string, Operand>>): GPUBindGroup {
    for (const name of Object.keys(operands)) {
      if (!this.bindings.some((binding) => binding.name === name)) {
        throw new Error(`kernel ${this.name} has no operand "${name}"`);
      }
    }
    return this.gpu.device.createBindGroup({
      label: this.name,
      layout: this.pipeline.getBindGroupLayout(0),
      entries: this.bindings.map(({ name, binding, type }) => {
        const operand = operands[name] ?? this.gpu.placeholder(type);
        return { binding, resource: { buffer: operand as GPUBuffer } };
      }),
    });
  }
}

interface Binding {
  readonly name: string;
  readonly binding: number;
  readonly type: GPUBufferBindingType;
}

/** Compiles kernels once per set of constants. */
export class Pipelines {
  readonly #kernels = new Map<string, Promise<Kernel>>();

  constructor(readonly gpu: Gpu) {}

  /** @throws Error naming the kernel and the line when it does not compile. */
  get(request: KernelRequest): Promise<Kernel> {
    const key = JSON.stringify([request.name, request.modules, request.constants]);
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = this.#compile(request);
      this.#kernels.set(key, kernel);
    }
    return kernel;
  }

  async #compile(request: KernelRequest): Promise<Kernel> {
    const { device } = this.gpu;
    const files = await Promise.all([...(request.modules ?? []), request.name].map(kernelSource));
    const code = specialise(request, files, this.gpu.unrolls);
    const module = device.createShaderModule({ label: request.name, code });
    const { messages } = await this.gpu.wait(module.getCompilationInfo());
    const problem = messages.find(({ type }) => type === "error");
    if (problem) {
      const line = code.split("\n")[problem.lineNum - 1];
      throw new Error(`kernel ${request.name}: ${problem.message} in "${line}"`);
    }
    const bindings = declaredBindings(code);
    const layout = device.createBindGroupLayout({
      entries: bindings.map(({ binding, type }) => ({
        binding,
        visibility: computeStage,
        buffer: { type },
      })),
    });
    const pipeline = await this.gpu.wait(
      device.createComputePipelineAsync({
        label: request.name,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      }),
    );
    return new Kernel(request.name, pipeline, this.gpu, bindings);
  }
}

function declaredBindings(code: string): Binding[] {
  const pattern = /@group\(0\) @binding\((\d+)\) var<(uniform|storage, read|storage, read_write)> (\w+)/g;
  return [...code.matchAll(pattern)].map(([, binding, space, name]) => ({
    name: name!,
    binding: Number(binding),
    type: space === "uniform" ? "uniform" : space === "storage, read" ? "read-only-storage" : "storage",
  }));
}
