import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { benchCommand } from "../../src/cli/bench.js";
import { type CheckerFigures, checkerText } from "../../src/cli/benchmark/checker-text.js";
import { childrenSeconds, filesRead } from "../../src/cli/benchmark/checksum.js";
import type { Diagnosis } from "../../src/cli/benchmark/diagnose-figures.js";
import { expected, measureShape, type ShapeDiagnosis } from "../../src/cli/benchmark/shape-figures.js";
import { inTemporaryFolder } from "../../src/cli/benchmark/temporary-folder.js";
import { modelDirectory } from "../engine/ishmael.js";
import { expectPublished } from "../published.js";

async function bench(...words: string[]): Promise<string> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const writeError = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    await benchCommand()
      .exitOverride()
      .parseAsync(["checker", ...words], { from: "user" });
    return write.mock.calls.map(([text]) => String(text)).join("");
  } finally {
    write.mockRestore();
    writeError.mockRestore();
  }
}

const nothing = ["--size", "0", "--runs", "0"];
const machine = { cores: 2, processor: "a processor", memoryBytes: 2 ** 33, node: "20.20.0" };

const series = (seconds: number, cpuSeconds: number) => ({
  seconds: [seconds],
  medianSeconds: seconds,
  medianCpuSeconds: cpuSeconds,
});

function diagnosis(seconds: number, verdict: string, ...causes: string[]): ShapeDiagnosis {
  return {
    exitCode: causes.length,
    verdict,
    causes,
    ...series(seconds, 2 * seconds),
    peakBytes: 5.6e8,
    overChecksum: { ratio: seconds / 4, cpuRatio: seconds / 2 },
    overBaseline: { ratio: seconds, cpuRatio: 2 * seconds },
  };
}

describe("faultline bench checker", () => {
  it("says what was left out, as JSON and as text", async () => {
    const figures = JSON.parse(await bench(...nothing, "--shape", "none", "--json")) as CheckerFigures;
    expect(Object.keys(figures)).toEqual(["machine", "compare", "diagnose", "shapes"]);
    expectPublished("bench-checker", figures);
    expect(figures).toMatchObject({ compare: { skipped: "--size 0" }, diagnose: { skipped: "--runs 0" }, shapes: [] });
    const text = await bench(...nothing, "--shape", "none");
    expect(text).toMatch(/ cores \(.*\), Node /);
    expect(text).toContain("compare: not measured: --size 0\n\ndiagnose: not measured: --runs 0\n");
    expect(text).not.toContain("shape");
  });

  it("measures the smallest shape unless told otherwise, each once", async () => {
    expect(JSON.parse(await bench(...nothing, "--json")).shapes).toEqual([{ shape: "0.6b", skipped: "--runs 0" }]);
    const several = JSON.parse(await bench(...nothing, "--shape", "8b", "0.6b", "8b", "--json"));
    expect(several.shapes.map(({ shape }: { shape: string }) => shape)).toEqual(["8b", "0.6b"]);
  });

  it("refuses arguments that mean nothing, before it measures", async () => {
    await expect(bench("--size", "big")).rejects.toThrow('--size: expected a number from 0 to 64, found "big"');
    await expect(bench("--runs", "-1")).rejects.toThrow('--runs: expected a number from 0 to 1000, found "-1"');
    await expect(bench("--shape", "none", "8b")).rejects.toThrow('--shape: expected shapes or none, found "none 8b"');
    await expect(bench("--shape", "7b")).rejects.toMatchObject({ code: "commander.invalidArgument" });
    await expect(bench("--folder", "no/such/folder")).rejects.toThrow("no/such/folder: expected a folder");
  });

  it("prints a shape beside both baselines, and why one was not measured", () => {
    const { overBaseline: _, ...beside } = diagnosis(3, "clean");
    const figures: CheckerFigures = {
      machine,
      compare: { skipped: "--size 0" },
      diagnose: {
        recording: "run.safetensors",
        tensors: 480,
        ...beside,
        checksum: { program: "Node's crypto", bytes: 1e9, ...series(2, 1) },
        overChecksum: { ratio: 1.5, cpuRatio: 6 },
      },
      shapes: [
        {
          shape: "0.6b",
          tokens: 64,
          folder: "there",
          neededBytes: 1.48e9,
          freeBytes: 5e9,
          checkpointBytes: 1.19e9,
          recordingBytes: 1.1e8,
          checksum: { program: "sha256sum", bytes: 1.3e9, ...series(4, 4) },
          baseline: { numpy: "2.4.6", peakBytes: 2e8, ...series(1, 1) },
          clean: diagnosis(6, "clean"),
          fault: diagnosis(8, "fault", "residual-dropped"),
        },
        { shape: "8b", skipped: "no disk" },
      ],
    };
    const text = checkerText(figures);
    expectPublished("bench-checker", figures);
    expect(text).toContain("Node's crypto (there is no sha256sum here), SHA-256 of the checkpoint and the recording");
    expect(text).toContain("  1.50 times the time of Node's crypto (processor time: 6.00 times)\n");
    expect(text).toContain("(in there, 1.48 GB needed, 5.00 GB were free; deleted)");
    expect(text).toContain("  clean: 6.00 s (12.00 s of processor time), peak 560 MB\n");
    expect(text).toContain("  fault in one layer, residual-dropped: 8.00 s (16.00 s of processor time), peak 560 MB\n");
    expect(text).toContain("clean is 1.50 times the time of sha256sum (processor time: 3.00 times); 6.00 times the");
    expect(text).toContain("diagnose at the 8b shape: not measured: no disk\n");
  });

  it("measures no shape without Python", async () => {
    const request = { shape: "0.6b", rounds: 1, folder: tmpdir(), python: "no-such-python" } as const;
    expect(await measureShape(request)).toEqual({
      shape: "0.6b",
      skipped: "no-such-python was not found; name another with --python",
    });
  });

  it("takes no other verdict than the one that was put in", () => {
    const run = (verdict: string, ...causes: string[]) => ({ verdict, causes }) as unknown as Diagnosis;
    expect(() => expected(run("clean"), "8b", "clean")).not.toThrow();
    expect(() => expected(run("fault", "norm-skipped"), "8b", "fault", "residual-dropped")).toThrow(
      "the generated fault recording of shape 8b: expected fault, residual-dropped, found fault, norm-skipped",
    );
  });
});

describe("what a benchmark stands on", () => {
  it("reads the processor time of children as dash and bash print it", () => {
    expect(childrenSeconds("0m0.000000s 0m0.010000s\n1m3.250000s 0m0.500000s\n")).toBeCloseTo(63.75);
    expect(childrenSeconds("0m0.000s 0m0.010s\n0m3.250s 0m0.500s\n")).toBeCloseTo(3.75);
    expect(childrenSeconds("")).toBeUndefined();
  });

  it("sums the checkpoint and every file of a capture directory, not other files beside the weights", async () => {
    await inTemporaryFolder(tmpdir(), async (folder) => {
      for (const name of ["b.json", "a.bin"]) writeFileSync(join(folder, name), name);
      const files = filesRead(modelDirectory, folder);
      expect(files[0]).toMatch(/\.safetensors$/);
      expect(files.slice(-2).sort()).toEqual([join(folder, "a.bin"), join(folder, "b.json")]);
    });
  });

  it("leaves nothing behind when it is interrupted", async () => {
    const parent = mkdtempSync(join(tmpdir(), "faultline-test-"));
    const exit = vi.spyOn(process, "exit").mockReturnValue(undefined as never);
    try {
      await inTemporaryFolder(parent, async (folder) => {
        writeFileSync(join(folder, "large"), "");
        process.emit("SIGINT", "SIGINT");
        expect(exit).toHaveBeenCalledWith(130);
        expect(existsSync(folder)).toBe(false);
      });
    } finally {
      exit.mockRestore();
      rmSync(parent, { recursive: true });
    }
  });
});
