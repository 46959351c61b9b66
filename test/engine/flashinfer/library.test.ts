import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { BatchPrefillWithPagedKVCache } from "../../../src/engine/attention/wrapper.js";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import { openCuda } from "../../../src/engine/cuda/device.js";
import type { FlashInfer } from "../../../src/engine/flashinfer/flashinfer.js";
import { moduleName } from "../../../src/engine/flashinfer/module-names.js";
import { openFlashInfer } from "../../../src/engine/flashinfer/open.js";
import { TvmLibrary } from "../../../src/engine/flashinfer/tvm-library.js";
import { int, type Value } from "../../../src/engine/flashinfer/values.js";
import { PlanWorkspace } from "../../../src/engine/flashinfer/workspace.js";
import { encode } from "../../../src/tensor/dtype.js";
import { compiler, FakeDriver } from "../cuda/emulated.js";
import { liveObjects, standInFolder } from "./stand-in.js";

const attention = (kind: "decode" | "prefill") => moduleName({ kind, headDim: 64, window: false, softCap: false });
const geometry = { heads: 4, kvHeads: 2, headDim: 64, pageSize: 4, windowLeft: -1, softCap: 0 };

if (compiler)
  describe("FlashInfer's library", () => {
    const root = mkdtempSync(join(tmpdir(), "faultline-modules-"));
    let driver: FakeDriver;
    let modules: string;
    beforeAll(() => {
      driver = new FakeDriver();
    });
    afterAll(() => rmSync(root, { recursive: true }));
    beforeEach(() => {
      modules = mkdtempSync(join(root, "one-"));
      symlinkSync(join(standInFolder(), "libtvm_ffi.so"), join(modules, "libtvm_ffi.so"));
      vi.stubEnv("FAULTLINE_FLASHINFER", modules);
    });
    afterEach(() => vi.unstubAllEnvs());

    const open = () => openCuda(driver.path, openFlashInfer);
    async function withFlashInfer(use: (flashinfer: FlashInfer, cuda: Cuda) => unknown): Promise<void> {
      const cuda = await open();
      try {
        await use(cuda.library as FlashInfer, cuda);
      } finally {
        cuda.destroy();
      }
    }
    const planner = (flashinfer: FlashInfer, kind: "decode" | "prefill") =>
      flashinfer.planner({ kind, geometry, causal: true, graph: false });

    test("says which module is missing, where it was looked for and what makes it", () =>
      withFlashInfer((flashinfer) => {
        const missing = (name: string, build: string) =>
          `FlashInfer's module ${name} is not in ${modules}: "${build}" makes it; FAULTLINE_FLASHINFER may name another folder`;
        for (const name of ["page", "norm", "rope"] as const)
          expect(() => flashinfer[name]()).toThrow(missing(name, "faultline flashinfer build"));
        for (const kind of ["decode", "prefill"] as const)
          expect(() => planner(flashinfer, kind)).toThrow(
            missing(attention(kind), "faultline flashinfer build --head-dim 64"),
          );
      }));

    test("says what cannot be loaded, and why", async () => {
      writeFileSync(join(modules, "page.so"), "no library");
      await withFlashInfer((flashinfer) => {
        expect(() => flashinfer.page()).toThrow(/^FlashInfer's module .*page\.so cannot be loaded: .*too short/);
      });
      const other = join(modules, "other");
      mkdirSync(other);
      writeFileSync(join(other, "libtvm_ffi.so"), "no library either");
      vi.stubEnv("FAULTLINE_FLASHINFER", other);
      await expect(open()).rejects.toThrow(/^FlashInfer's runtime .*libtvm_ffi\.so cannot be loaded: .*$/);
    });

    test("takes what a module needs from beside it, and names it where it is nowhere", async () => {
      const away = join(modules, "away");
      mkdirSync(away);
      const build = (...words: string[]) =>
        execFileSync(compiler!, ["-shared", "-x", "c++", ...words], { cwd: modules });
      writeFileSync(join(modules, "empty.cpp"), "");
      build("empty.cpp", "-o", "libcudart.so.99", "-Wl,-soname,libcudart.so.99");
      build("empty.cpp", "-o", "norm.so", "-Wl,--no-as-needed", "-L.", "-l:libcudart.so.99");
      renameSync(join(modules, "libcudart.so.99"), join(away, "libcudart.so.99"));
      await withFlashInfer((flashinfer) => {
        expect(() => flashinfer.norm()).toThrow(
          /norm\.so needs libcudart\.so\.99, which the loader does not find: name its folder in LD_LIBRARY_PATH$/,
        );
        copyFileSync(join(away, "libcudart.so.99"), join(modules, "libcudart.so.99"));
        expect(() => flashinfer.norm()).toThrow(/norm\.so has no function rmsnorm$/);
      });
    });

    test.each(["0.6.4", "0.6.12", "0.6.18", "0.7.4"])("calls a prefill module as version %s takes it", (version) => {
      vi.stubEnv("FAKE_FLASHINFER", version);
      vi.stubEnv("FAULTLINE_FLASHINFER", standInFolder());
      return withFlashInfer(async (_, cuda) => {
        const own = new BatchPrefillWithPagedKVCache(cuda);
        const types = { queryDtype: "bfloat16", kvDtype: "bfloat16" } as const;
        const table = { indptr: Int32Array.of(0, 1), indices: Int32Array.of(0), lastPageLen: Int32Array.of(2) };
        own.plan({ ...geometry, ...types, ...table, qoIndptr: Int32Array.of(0, 2), causal: true });
        const ones = (shape: number[]) => ({
          buffer: cuda.upload(
            "ones",
            encode(new Float32Array(shape.reduce((a, b) => a * b)).fill(1), "bfloat16") as Uint8Array<ArrayBuffer>,
          ),
          dtype: "bfloat16" as const,
          shape,
        });
        const cache = [ones([1, 4, 2, 64]), ones([1, 4, 2, 64])] as const;
        const { output } = await own.run(ones([2, 4, 64]) as never, cache as never);
        expect([...(await cuda.readFloats(output as never, 0, 64))]).toEqual(new Array(64).fill(1));
      });
    });

    test("refuses a version that it does not know, in one sentence", async () => {
      vi.stubEnv("FAKE_FLASHINFER", "9.9.9");
      vi.stubEnv("FAULTLINE_FLASHINFER", standInFolder());
      await withFlashInfer((flashinfer) => {
        expect(() => planner(flashinfer, "prefill")).toThrow(
          /: plan, paged_run and ragged_run take 22, 30 and 28 arguments, as in no version of FlashInfer that is known here \(0\.5\.3 to 0\.6\.9, .*0\.7\.4\)$/,
        );
      });
    });

    test("a module under another one's name is refused", async () => {
      copyFileSync(join(standInFolder(), "page.so"), join(modules, `${attention("decode")}.so`));
      await withFlashInfer((flashinfer) => {
        expect(() => planner(flashinfer, "decode")).toThrow(/\.so has no function plan$/);
      });
    });

    test("a malformed call is an error in the library's words, and leaves nothing behind", () =>
      withFlashInfer((_, cuda) => {
        const library = TvmLibrary.load(cuda.stream.driver.koffi, join(standInFolder(), "libtvm_ffi.so"));
        library.setStream(cuda.stream.handle);
        const plan = library.open(join(standInFolder(), `${attention("decode")}.so`))("plan");
        expect(plan.argumentCount).toBe(15);
        const before = liveObjects();
        const bytes = (length: number, shape = [length]): Value => {
          const { address } = cuda.buffer("workspace", length);
          return { kind: "device", address, dtype: "uint8", shape, strides: [1] };
        };
        const [floats, ints] = [bytes(128 << 20), bytes(8 << 20)];
        const workspace = new PlanWorkspace(cuda.stream);
        const none = { kind: "device", address: 0, dtype: "bfloat16", shape: [0], strides: [1] } as const;
        const scalars: Value[] = [
          ...[1, 4, 2, 4].map(int),
          false,
          int(-1),
          { kind: "float", value: 0 },
          int(64),
          int(64),
        ];
        const good = (pinned: Value): Value[] => {
          const indptr: Value = { kind: "numbers", numbers: Int32Array.of(0, 1) };
          return [floats, ints, pinned, indptr, ...scalars, none, none];
        };
        const changed = (at: number, value: Value) => () =>
          workspace.plan((pinned) => plan.call(good(pinned).with(at, value))!);
        expect(() => plan.call([])).toThrow(/plan: TypeError: Mismatched number of arguments .* Expected 15 but got 0/);
        expect(() => plan.call(new Array(15).fill(null))).toThrow(/TypeError: Mismatched type on argument #0/);
        expect(changed(4, { kind: "float", value: 1 })).toThrow(/TypeError: Mismatched type on argument #4 .*`int`/);
        expect(changed(8, int(0))).toThrow(/TypeError: Mismatched type on argument #8 .*`bool`/);
        expect(changed(1, bytes(64))).toThrow(/int_workspace has the wrong shape/);
        expect(changed(2, ints)).toThrow(/page_locked_int_workspace is on the wrong device/);
        expect(changed(1, { ...(ints as object), address: 4096 } as Value)).toThrow(/ends outside of its memory/);
        expect(changed(3, { kind: "numbers", numbers: Int32Array.of(0) })).toThrow(/indptr has the wrong length/);
        expect(changed(11, int(32))).toThrow(/Unsupported head_dim/);
        expect(liveObjects()).toBe(before);
        const made = workspace.plan((pinned) => plan.call(good(pinned))!);
        expect(liveObjects()).toBe(before + 1);
        library.release(made);
        const run = library.open(join(standInFolder(), `${attention("decode")}.so`))("run");
        expect(() => run.call([floats, ints, made, ...new Array(16).fill(null)])).toThrow(
          /the array was given back already/,
        );
        expect(liveObjects()).toBe(before);
        workspace.destroy();
        library.destroy();
      }));

    test("plans take one of two page-locked copies after the other, wait for their own, and give both back", () =>
      withFlashInfer((_, cuda) => {
        const live = driver.live;
        const workspace = new PlanWorkspace(cuda.stream);
        const addresses: number[] = [];
        const polls: number[] = [];
        for (let i = 0; i < 4; i++) {
          driver.calls();
          workspace.plan((pinned) => {
            addresses.push((pinned as { address: number }).address);
            return { kind: "object", type: 71, handle: 0 };
          });
          polls.push(driver.calls().filter((call) => call.startsWith("cuEventQuery")).length);
        }
        expect(addresses[0]).not.toBe(addresses[1]);
        expect(addresses.slice(2)).toEqual(addresses.slice(0, 2));
        // The driver says once that an event has not come.
        expect(polls).toEqual([0, 0, 2, 2]);
        workspace.destroy();
        expect(driver.live).toBe(live);
      }));

    test("a plan that failed leaves its copy free: nobody waits for it", () =>
      withFlashInfer((_, cuda) => {
        driver.calls();
        const workspace = new PlanWorkspace(cuda.stream);
        const fails = () =>
          workspace.plan(() => {
            throw new Error("no plan");
          });
        for (let i = 0; i < 3; i++) expect(fails).toThrow("no plan");
        expect(driver.calls().filter((call) => call.startsWith("cuEventQuery"))).toEqual([]);
        workspace.destroy();
      }));
  });
else test("without a C++ compiler there is no stand-in for FlashInfer", () => expect(compiler).toBeUndefined());
