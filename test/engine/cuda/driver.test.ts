import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { openCuda } from "../../../src/engine/cuda/device.js";
import { Graphs } from "../../../src/engine/cuda/graphs.js";
import type { CudaLaunch } from "../../../src/engine/cuda/launch.js";
import { CudaStaging } from "../../../src/engine/cuda/memory.js";
import { compiler, FakeDriver } from "./emulated.js";

const shape = { rows: 1, sequences: 1, splitCount: 1, tileCount: 1 };

test("a machine without a driver is told so in one sentence", async () => {
  await expect(openCuda("libcuda-that-is-not-there.so.1")).rejects.toThrow(
    "this machine has no CUDA driver (libcuda-that-is-not-there.so.1 was not found)",
  );
});

const whenFound = compiler ? describe : () => console.warn("no C++ compiler was found: CUDA's driver is not tested");
whenFound("the driver API, against a driver that checks what it is given", () => {
  async function open() {
    const driver = new FakeDriver();
    driver.calls();
    return { driver, cuda: await openCuda(driver.path) };
  }

  /** A launch that leaves its mark: `output` = 2 · `input`. */
  async function doubling(cuda: Awaited<ReturnType<typeof openCuda>>, count = 4) {
    const input = cuda.upload(
      "input",
      Float32Array.from({ length: count }, (_, i) => i + 1),
    );
    const output = cuda.buffer("output", count * 4);
    const header = cuda.upload("header", Uint32Array.of(1, 1));
    const strides = { firstStride: count, firstOffset: 0, secondStride: 0, secondOffset: 0 };
    const values = { header, first: input, second: null, output, columns: count, perSequence: 0, ...strides };
    const kernel = cuda.modules.bind("pointwise", { ...values, operation: 3, factor: 2 });
    const launch: CudaLaunch = { label: "double", kernel, grid: () => [1, 1, 1] };
    const destroy = () => {
      for (const buffer of [input, output, header]) buffer.destroy();
    };
    return { launch, output, destroy };
  }

  test("device, context and stream are opened once and given back", async () => {
    const { driver, cuda } = await open();
    expect(cuda.name).toBe("Fake GPU 0");
    expect(driver.calls().map((call) => call.split(" ")[0])).toEqual([
      "cuInit",
      "cuDeviceGetCount",
      "cuDeviceGet",
      "cuDeviceGetName",
      "cuDeviceGetAttribute",
      "cuDeviceGetAttribute",
      "cuDevicePrimaryCtxRetain",
      "cuCtxSetCurrent",
      "cuStreamCreate",
      "cuDeviceGetAttribute",
    ]);
    cuda.destroy();
    expect(driver.live).toBe(0);
  });

  test("buffers are zeros, hold what is written, and read it back from where it lies", async () => {
    const { driver, cuda } = await open();
    const buffer = cuda.buffer("numbers", 20);
    expect(buffer.size).toBe(32);
    expect(new Uint8Array(await cuda.read(buffer)).every((byte) => byte === 0)).toBe(true);
    cuda.write(buffer, 8, Uint8Array.of(1, 2, 3));
    expect([...new Uint8Array(await cuda.read(buffer, 7, 5))]).toEqual([0, 1, 2, 3, 0]);
    expect(() => cuda.write(buffer, 30, Uint8Array.of(1, 2, 3))).toThrow(
      "cuMemcpyHtoDAsync_v2: CUDA_ERROR_INVALID_VALUE (in the words of the driver)",
    );
    buffer.destroy();
    cuda.destroy();
    expect(driver.live).toBe(0);
  });

  test("a device without room says which buffer found none", async () => {
    const { cuda } = await open();
    expect(() => cuda.buffer("a cache", 2 ** 40)).toThrow(
      /^a cache: 1099511627776 bytes: cuMemAlloc_v2: .*OUT_OF_MEMORY/,
    );
    cuda.destroy();
  });

  test.each([
    ["90", true],
    ["80", false],
  ])("on compute capability %s kernels overlap, but for the first of a list: %s", async (capability, overlaps) => {
    process.env.FAKE_CUDA_CAPABILITY = capability;
    const { driver, cuda } = await open();
    const { launch, output, destroy } = await doubling(cuda);
    driver.calls();
    cuda.run([launch, launch], shape);
    const call = "cuLaunchKernelEx pointwise 1x1x1 128x1x1";
    expect(driver.calls()).toEqual([call, overlaps ? `${call} overlapping` : call]);
    expect([...(await cuda.readFloats(output))]).toEqual([2, 4, 6, 8]);
    destroy();
    cuda.destroy();
    delete process.env.FAKE_CUDA_CAPABILITY;
  });

  test("a device that the kernels are not made for is refused by its name", async () => {
    process.env.FAKE_CUDA_CAPABILITY = "75";
    await expect(open()).rejects.toThrow("Fake GPU 0 has compute capability 7.5, the CUDA kernels need 8.0 or later");
    delete process.env.FAKE_CUDA_CAPABILITY;
  });

  test("a list of launches becomes a graph when its shape comes again, and one per shape", async () => {
    const { driver, cuda } = await open();
    const { launch, destroy } = await doubling(cuda);
    const graphs = new Graphs(cuda.stream);
    const list = Array.from({ length: 9 }, () => ({ ...launch, graphs }));
    driver.calls();
    const run = (sequences: number, times?: number) => {
      const commands = cuda.commands();
      commands.launch(list, { ...shape, sequences }, times);
      expect(driver.calls()).toEqual([]);
      commands.submit();
      return driver.calls().map((call) => call.split(" ").slice(0, 2).join(" "));
    };
    const launches = Array<string>(9).fill("cuLaunchKernelEx pointwise");
    const making = [
      "cuStreamBeginCapture_v2",
      ...launches,
      "cuStreamEndCapture",
      "cuGraphInstantiateWithFlags",
      "cuGraphDestroy",
    ];
    expect(run(1)).toEqual(launches);
    expect(run(1)).toEqual([...making, "cuGraphLaunch 9"]);
    expect(run(1)).toEqual(["cuGraphLaunch 9"]);
    expect(run(2, 3)).toEqual([...making, "cuGraphLaunch 9", "cuGraphLaunch 9", "cuGraphLaunch 9"]);
    for (let sequences = 3; sequences < 10; sequences++) run(sequences, 2);
    // The first shape's graph has given way.
    expect(run(1, 2)[0]).toBe("cuStreamBeginCapture_v2");
    graphs.destroy();
    destroy();
    cuda.destroy();
    expect(driver.live).toBe(0);
  });

  test("a launch that fails while it is captured leaves the stream usable", async () => {
    const { driver, cuda } = await open();
    const { launch, output, destroy } = await doubling(cuda);
    driver.failNext("cuLaunchKernelEx", 719);
    expect(() => cuda.stream.capture(() => cuda.run([launch], shape))).toThrow(
      "cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED",
    );
    const mistake = () => {
      throw new Error("a mistake of ours");
    };
    expect(() => cuda.stream.capture(mistake)).toThrow("a mistake of ours");
    cuda.run([launch], shape);
    expect([...(await cuda.readFloats(output))]).toEqual([2, 4, 6, 8]);
    destroy();
    cuda.destroy();
    expect(driver.live).toBe(0);
  });

  test("reads wait for what was submitted, and fail where it failed", async () => {
    const { driver, cuda } = await open();
    const staging = new CudaStaging(cuda.stream, 16);
    driver.failNext("cuEventQuery", 700);
    await expect(staging.read()).rejects.toThrow("cuEventQuery: CUDA_ERROR_ILLEGAL_ADDRESS");
    driver.calls();
    await staging.read();
    expect(driver.calls()).toEqual(["cuEventRecord", "cuEventQuery", "cuEventQuery"]);
    staging.destroy();
    cuda.destroy();
  });

  test("times of launches are those between their events", async () => {
    const { driver, cuda } = await open();
    const { launch, destroy } = await doubling(cuda);
    expect((await cuda.time([launch, launch], shape)).map(Math.round)).toEqual([2000, 2000]);
    destroy();
    cuda.destroy();
    expect(driver.live).toBe(0);
  });

  test("numbers that are no numbers of their field are refused before a launch", async () => {
    const { cuda } = await open();
    const values = { input: null, output: null, chunks: 1.5 };
    expect(() => cuda.modules.bind("read-bandwidth", values)).toThrow("ReadParameters.chunks: 1.5 is not a u32");
    cuda.destroy();
  });

  test("on the command line a missing device is one sentence, and exit code 2", () => {
    const options = [
      "generate",
      "--model",
      "models/ishmael-7m",
      "--path",
      "fused",
      "--adapter",
      "cuda",
      "--prompt",
      "A",
    ];
    const env = { ...process.env, LD_LIBRARY_PATH: dirname(new FakeDriver().path), FAKE_CUDA_DEVICES: "0" };
    try {
      execFileSync("node", ["dist/cli/main.js", ...options], { env, stdio: "pipe", encoding: "utf8" });
      expect.unreachable();
    } catch (error) {
      const { status, stderr } = error as { status: number; stderr: string };
      expect(stderr.trim().split("\n")).toEqual([expect.stringContaining("cuInit: CUDA_ERROR_NO_DEVICE")]);
      expect(status).toBe(2);
    }
  });
});
