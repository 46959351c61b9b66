import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { compiler, FakeDriver } from "../engine/cuda/emulated.js";
import { standInFolder } from "../engine/flashinfer/stand-in.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-demo-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The first layers of the model that ships with faultline. */
function shallowModel(layers: number): string {
  const path = join(folder, `of-${layers}`);
  const own = resolve("models/ishmael-7m");
  mkdirSync(path);
  for (const name of ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
    symlinkSync(join(own, name), join(path, name));
  const config = JSON.parse(readFileSync(join(own, "config.json"), "utf8"));
  const layer_types = config.layer_types.slice(0, layers);
  writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, num_hidden_layers: layers, layer_types }));
  return path;
}

function demo(modules: string, ...options: string[]) {
  const env = {
    ...process.env,
    LD_LIBRARY_PATH: dirname(new FakeDriver().path),
    FAULTLINE_FLASHINFER: modules,
    NO_COLOR: "1",
  };
  return spawnSync("node", ["dist/cli/main.js", "demo", "flashinfer", ...options], { env, encoding: "utf8" });
}

if (compiler)
  describe("the case with FlashInfer, on a stand-in for it", () => {
    it("goes as it went, and its recordings are diagnosed again", async () => {
      const model = shallowModel(3);
      const capture = join(folder, "captures");
      const { stdout, stderr, status } = demo(standInFolder(), "--model", model, "--capture", capture);
      expect(stderr).toBe("");
      expect(stdout).toContain('"Call me Ishmael." goes on with "!!!!"');
      expect(stdout).toMatch(/largest \|x\| behind layer 0: 1\.\d, 1: 3\.\de\+28, 2: 0/);
      expect(stdout.match(/layers\.\*\.k_scale=[\d.]+ +"!!!!", \d+ of \d+ elements change/g)).toHaveLength(5);
      expect(stdout).toMatch(/FlashInfer: self_attn\.o_proj\.input +[\w-]+, \d+\.\d+ % bit for bit/);
      expect(stdout.match(/ {4}(boundary|cache|rotary|batch) +pass {2}/g)).toHaveLength(4);
      expect(stdout).toMatch(/recorded: CLEAN.*\n\nas in the case, from the first line to the last\n$/);
      expect(status).toBe(0);
      expect(readdirSync(capture).sort()).toEqual(["faulty", "healed", "kernel"]);
      const { causes } = await diagnose({ target: join(capture, "faulty"), model, quick: true });
      expect(causes.map(({ cause }) => cause)).toEqual(["embedding-scaled", "residual-dropped", "additive-constant"]);
      // Kernels run on the CPU, thread by thread.
    }, 300_000);

    it("says what is not as in the case, and exits with 1", () => {
      const { stdout, status } = demo(standInFolder(), "--model", shallowModel(1));
      expect(stdout).toMatch(/\nnot as in the case: /);
      expect(status).toBe(1);
    });

    it("says in one sentence what is missing, and exits with 2", () => {
      const modules = join(folder, "none");
      mkdirSync(modules);
      symlinkSync(join(standInFolder(), "libtvm_ffi.so"), join(modules, "libtvm_ffi.so"));
      const { stdout, stderr, status } = demo(modules);
      expect(stdout).toBe("");
      expect(stderr).toMatch(
        /^faultline: .*module batch_decode_with_kv_cache_\S+ is not in .*: "faultline flashinfer build --head-dim 64" makes it; .*\n$/,
      );
      expect(status).toBe(2);
    });
  });
else it("without a C++ compiler there is no stand-in", () => expect(compiler).toBeUndefined());
