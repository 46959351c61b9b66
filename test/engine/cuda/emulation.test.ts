import { expect, test } from "vitest";
import { openCuda } from "../../../src/engine/cuda/device.js";
import { compiler, FakeDriver } from "./emulated.js";

/** Runs a kernel of faulty.cu: what it left in 64 floats. */
async function run(name: string, threads = 64): Promise<Float32Array> {
  const cuda = await openCuda(new FakeDriver().path);
  try {
    const { driver } = cuda.stream;
    const ptx = `\n.version 7.8\n.target sm_90\n.visible .entry ${name}(\n.param .align 8 .b8 ${name}_param_0[8]\n)\n.maxntid ${threads}, 1, 1\n{}\n\0`;
    const module = driver.handle("cuModuleLoadData", new TextEncoder().encode(ptx));
    const handle = driver.handle("cuModuleGetFunction", module, name);
    const output = cuda.buffer("output", 256);
    const argument = new Uint8Array(BigUint64Array.of(BigInt(output.address)).buffer);
    try {
      cuda.stream.launch({ handle, threads, sharedBytes: 0, argument }, [1, 1, 1], true);
      return await cuda.readFloats(output);
    } finally {
      output.destroy();
      driver.call("cuModuleUnload", module);
    }
  } finally {
    cuda.destroy();
  }
}

if (compiler) {
  test("threads that others wait for at a barrier, and lanes that do not do the same, fail the launch", async () => {
    const driver = new FakeDriver();
    for (const [name, threads, what] of [
      ["faulty_barrier", 64, "threads wait at a barrier that others never reach"],
      ["faulty_shuffle", 64, "lanes of a warp exchange in different ways"],
      ["faulty_matrices", 32, "lanes of a warp exchange in different ways"],
      ["faulty_multiply", 32, "lanes of a warp exchange in different ways"],
      ["faulty_lanes", 32, "threads wait at a barrier that others never reach"],
    ] as const) {
      driver.calls();
      await expect(run(name, threads)).rejects.toThrow("cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED");
      expect(driver.calls()).toContain(`! ${name}: ${what}`);
      // What ran before does not stand in the way.
      expect([...(await run("right"))]).toEqual(Array.from({ length: 64 }, (_, i) => 63 - (i ^ 5)));
    }
  });

  test("shared memory that nobody wrote is NaN, and a race shows when the order of threads turns around", async () => {
    expect([...(await run("faulty_shared"))].map(Number.isNaN).indexOf(true)).toBe(63);
    const orders = [await run("faulty_race"), await run("faulty_race")].map((values) => values.join());
    expect(orders[0]).not.toBe(orders[1]);
  });
  test("a copy is there for who has waited for its group, and for nobody else", async () => {
    const numbers = async (name: string) => [...(await run(name))].map((value) => !Number.isNaN(value));
    expect(await numbers("faulty_copy")).toEqual(Array.from({ length: 64 }, (_, i) => i > 1));
    expect(await numbers("faulty_group")).toEqual(Array.from({ length: 64 }, (_, i) => i > 0));
  });
} else test("without a C++ compiler kernels do not run on the CPU", () => expect(compiler).toBeUndefined());
