import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test, vi } from "vitest";
import { program } from "../../../src/cli/program.js";
import { modulesOf } from "../../../src/engine/flashinfer/build.js";
import { readModelConfig } from "../../../src/spec/models/config-file.js";
import { decoderGraph } from "../../../src/spec/models/decoder.js";
import { printedBy } from "../../cli/printed.js";

const root = mkdtempSync(join(tmpdir(), "faultline-build-"));
afterAll(() => rmSync(root, { recursive: true }));
const python = spawnSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).stdout?.trim();
const whenFound: (name: string, run: () => Promise<void>) => void = python ? test : () => {};
if (!python) console.warn("no python3 was found: the build of FlashInfer's modules is not tested");
let folder: string;
let packages: string;
let built: string;

/** Programs that are all there is on the PATH, besides Python. */
function programs(...names: string[]): void {
  const bin = join(folder, "bin");
  mkdirSync(bin);
  for (const name of names) {
    writeFileSync(join(bin, name), "#!/bin/sh\nexit 0\n");
    chmodSync(join(bin, name), 0o755);
  }
  vi.stubEnv("PATH", bin);
}

beforeEach(() => {
  vi.unstubAllEnvs();
  folder = mkdtempSync(join(root, "one-"));
  packages = join(folder, "packages");
  cpSync(join(import.meta.dirname, "packages"), packages, { recursive: true });
  // What stands in for the environment's Python has no programs beside it.
  writeFileSync(
    join(folder, "python"),
    `#!/bin/sh\nexec '${python}' -c 'import sys; sys.executable = "${folder}/python"; sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())' "$@"\n`,
  );
  chmodSync(join(folder, "python"), 0o755);
  vi.stubEnv("PYTHONPATH", packages);
  vi.stubEnv("PYTHONDONTWRITEBYTECODE", "1");
  vi.stubEnv("FLASHINFER_WORKSPACE_BASE", folder);
  vi.stubEnv("CUDA_HOME", join(folder, "cuda"));
  built = join(folder, ".cache", "faultline", "flashinfer");
});

async function build(...options: string[]): Promise<{ out: string; said: string }> {
  let said = "";
  const write = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    said += text;
    return true;
  });
  try {
    const command = ["flashinfer", "build", "--python", join(folder, "python"), ...options];
    const out = await printedBy(() => program.parseAsync(command, { from: "user" }));
    return { out, said };
  } finally {
    write.mockRestore();
  }
}

whenFound("builds a model's modules and puts them where they are looked for, with what they load", async () => {
  programs("ninja", "nvcc");
  mkdirSync(join(folder, "cuda", "lib64"), { recursive: true });
  writeFileSync(join(folder, "cuda", "lib64", "libcudart.so.13"), "CUDA's runtime");
  const { out, said } = await build("--model", "models/ishmael-7m");
  expect(out).toBe(`${built}\n`);
  expect(said).toMatch(/compiles 5 modules of its FlashInfer with nvcc, once, into .*; this takes minutes\.\n/);
  expect(said).toMatch(/FlashInfer 0\.6\.18, apache-tvm-ffi 0\.1\.15: page, norm, rope, batch_decode_with/);
  const attention = (kind: string, end: string) =>
    `batch_${kind}_with_kv_cache_dtype_q_bf16_dtype_kv_bf16_dtype_o_bf16_dtype_idx_i32_head_dim_qk_64_head_dim_vo_64_posenc_0_use_swa_False_use_logits_cap_False${end}.so`;
  const libraries = [attention("decode", ""), attention("prefill", "_f16qk_False"), "norm.so", "page.so", "rope.so"];
  expect(readdirSync(built).sort()).toEqual([...libraries, "build.log", "libcudart.so.13", "libtvm_ffi.so"].sort());
  expect(readFileSync(join(built, libraries[1]!), "utf8")).toContain(
    "('bf16', 'bf16', 'bf16', 'i32', 64, 64, 0, False, False, False)",
  );
});

whenFound("builds modules for heads of given sizes", async () => {
  programs("ninja", "nvcc");
  await build("--head-dim", "64", "128", "--window", "--soft-cap");
  const names = readdirSync(built).filter((name) => name.startsWith("batch_"));
  expect(names).toHaveLength(4);
  for (const name of names) expect(name).toContain("use_swa_True_use_logits_cap_True");
  expect(existsSync(join(built, "libcudart.so.13"))).toBe(false);
});

const missing: readonly (readonly [string, () => void, RegExp])[] = [
  [
    "the package flashinfer-python",
    () => rmSync(join(packages, "flashinfer"), { recursive: true }),
    /has no package flashinfer-python: pip install flashinfer-python$/,
  ],
  [
    "the package apache-tvm-ffi",
    () => rmSync(join(packages, "tvm_ffi"), { recursive: true }),
    /has no package apache-tvm-ffi: pip install apache-tvm-ffi$/,
  ],
  [
    "a package that the generator needs",
    () => rmSync(join(packages, "flashinfer", "jit", "core.py")),
    /FlashInfer's generator cannot be loaded with .*core/,
  ],
  [
    "a GPU to build for",
    () => vi.stubEnv("STAND_IN_GPU", "none"),
    /torch sees no GPU: name its architecture in FLASHINFER_CUDA_ARCH_LIST, such as 9\.0a/,
  ],
];
for (const [what, take, sentence] of missing) {
  whenFound(`says in a sentence that ${what} is missing`, async () => {
    programs("ninja", "nvcc");
    take();
    await expect(build("--head-dim", "64")).rejects.toThrow(sentence);
  });
}

whenFound("says in a sentence which program is missing", async () => {
  programs();
  await expect(build("--head-dim", "64")).rejects.toThrow(/^ninja is not on the PATH: pip install ninja$/);
  rmSync(join(folder, "bin"), { recursive: true });
  programs("ninja");
  await expect(build("--head-dim", "64")).rejects.toThrow(
    /^nvcc is neither on the PATH nor .*cuda\/bin\/nvcc: install a CUDA toolkit/,
  );
});

whenFound("says where to read why something does not compile", async () => {
  programs("ninja", "nvcc");
  writeFileSync(join(folder, "bin", "ninja"), "#!/bin/sh\necho nvcc fatal: no such thing\nexit 1\n");
  await expect(build("--head-dim", "64")).rejects.toThrow(
    /modules could not be built, .*build\.log says why: CalledProcessError/,
  );
  expect(readFileSync(join(built, "build.log"), "utf8")).toContain("nvcc fatal: no such thing");
});

test("refuses options that do not go together, and a Python that is not there", async () => {
  await expect(build("--head-dim", "96")).rejects.toThrow(
    /--head-dim: FlashInfer has modules for 64, 128, 256, found "96"/,
  );
  await expect(build("--window")).rejects.toThrow(/expected --head-dim beside them/);
  await expect(build("--model", "models/ishmael-7m", "--head-dim", "64")).rejects.toThrow(
    /--model: expected no --head-dim/,
  );
  await expect(build("--python", join(folder, "nothing"))).rejects.toThrow(
    /--python .*nothing: there is no such command/,
  );
});

test("a model's modules are those that its layers ask for, each once", () => {
  const graph = decoderGraph(readModelConfig("models/ishmael-7m").config);
  expect(modulesOf(graph)).toEqual([
    { kind: "decode", headDim: 64, window: false, softCap: false },
    { kind: "prefill", headDim: 64, window: false, softCap: false },
  ]);
});
