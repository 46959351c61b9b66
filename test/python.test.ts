import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const root = new URL("..", import.meta.url).pathname;
const needed = `
import importlib.util, sys
sys.exit(not all(map(importlib.util.find_spec, ["pytest", "torch", "transformers"])))`;

/** A Python that has what the recorder's tests need: FAULTLINE_PYTHON, one that .ci/run made, or the machine's own. */
const python = [process.env.FAULTLINE_PYTHON, join(root, "python/.venv/bin/python"), "python3"].find(
  (command) => command && spawnSync(command, ["-c", needed], { stdio: "ignore", timeout: 60_000 }).status === 0,
);

const environment = {
  ...process.env,
  PYTHONPATH: join(root, "python"),
  // Threads of tiny models only fight over the cores.
  OMP_NUM_THREADS: "1",
  // Compiling torch and transformers takes longer than running them: bytecode is kept, whatever the shell says.
  PYTHONDONTWRITEBYTECODE: "",
};

describe("the recorder in Python", () => {
  if (python) {
    // A minute of computing, beside other tests, on machines of any speed.
    it("passes its own tests", { timeout: 900_000 }, () => {
      const run = spawnSync(python, ["-m", "pytest", "-q", "-p", "no:cacheprovider"], {
        cwd: join(root, "python"),
        encoding: "utf8",
        env: environment,
      });
      expect(`${run.stdout}${run.stderr}`).toMatch(/\n\d+ passed(?!.*failed)/);
      expect(run.status).toBe(0);
    });
  } else {
    it("WAS NOT TESTED: no Python with torch, transformers and pytest was found (FAULTLINE_PYTHON names one)", () => {
      console.warn("python/tests did not run: no Python with torch, transformers and pytest was found");
      expect(python).toBeUndefined();
    });
  }
});
