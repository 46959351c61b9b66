import { runScript, type Unavailable } from "./python-script.js";
import type { Times } from "./times.js";

/** NumPy's allclose over two files. */
export interface NumpyRun extends Times {
  readonly numpy: string;
  readonly peakBytes: number;
}

/** NumPy's allclose over the same two files, or why it could not be measured. */
export type Baseline = NumpyRun | Unavailable;

/** Runs scripts/benchmark/allclose.py with the given Python. */
export async function measureNumpy(python: string, reference: string, target: string): Promise<Baseline> {
  const script = await runScript(python, "allclose.py", [reference, target]);
  return "unavailable" in script ? script : (JSON.parse(script.output) as NumpyRun);
}
