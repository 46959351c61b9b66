import { rmSync } from "node:fs";
import { CaptureObservations } from "../capture/observations.js";
import { openCapture } from "../capture/reader.js";
import { type DType, floatFormat } from "../tensor/dtype.js";
import type { LabModel } from "./model.js";
import { type LabRun, runReference } from "./run.js";

/** A way to compare a value of two runs that people use where they have no checker. */
export interface Criterion {
  readonly id: "allclose" | "cosine" | "relative";
  readonly title: string;
  /** Whether two values of the same shape count as equal. */
  holds(reference: Float64Array, seen: Float64Array, dtype: DType): boolean;
}

/** Tolerances of torch.testing.assert_close by type: relative and absolute. */
const tolerances: Partial<Record<DType, readonly [number, number]>> = {
  float32: [1.3e-6, 1e-5],
  float16: [1e-3, 1e-5],
  bfloat16: [1.6e-2, 1e-5],
};

export const criteria: readonly Criterion[] = [
  {
    id: "allclose",
    title: "torch.testing.assert_close with its default tolerances",
    holds(reference, seen, dtype) {
      const [relative, absolute] = tolerances[dtype]!;
      return reference.every(
        (x, i) => same(x, seen[i]!) || Math.abs(seen[i]! - x) <= absolute + relative * Math.abs(x),
      );
    },
  },
  {
    id: "cosine",
    title: "cosine similarity of at least 0.99",
    holds(reference, seen) {
      let product = 0;
      let ofReference = 0;
      let ofSeen = 0;
      for (let i = 0; i < seen.length; i++) {
        product += reference[i]! * seen[i]!;
        ofReference += reference[i]! ** 2;
        ofSeen += seen[i]! ** 2;
      }
      if (ofReference === 0 && ofSeen === 0) return true;
      return product >= 0.99 * Math.sqrt(ofReference * ofSeen);
    },
  },
  {
    id: "relative",
    title: "root mean square of the difference at most 1e-3 of that of the reference",
    holds(reference, seen) {
      let difference = 0;
      let size = 0;
      for (let i = 0; i < seen.length; i++) {
        difference += same(reference[i]!, seen[i]!) ? 0 : (seen[i]! - reference[i]!) ** 2;
        size += reference[i]! ** 2;
      }
      return difference <= 1e-6 * size;
    },
  },
];

function same(a: number, b: number): boolean {
  return a === b || (Number.isNaN(a) && Number.isNaN(b));
}

/** The first value, in order of execution, that is not equal in two recordings of the same text; by criterion. */
export type FirstDifference = Readonly<Record<Criterion["id"], string | undefined>>;

/**
 * Compares a run with a plain one of the same text, which is recorded for that and removed. Values that one of them lacks
 * are passed over.
 */
export function firstDifferences(model: LabModel, run: LabRun): FirstDifference {
  const reference = runReference(run);
  try {
    return compare(model, reference.path, run.path);
  } finally {
    rmSync(reference.path, { recursive: true, force: true });
  }
}

function compare({ graph }: LabModel, reference: string, path: string): FirstDifference {
  const [a, b] = [openCapture(reference), openCapture(path)];
  try {
    const [expected, seen] = [new CaptureObservations(a, graph), new CaptureObservations(b, graph)];
    const first: Partial<Record<Criterion["id"], string>> = {};
    for (const name of graph.nodes.keys()) {
      const rows = expected.outputRows(name);
      const dtype = expected.dtype(name);
      if (rows.length === 0 || !dtype || !floatFormat(dtype) || !tolerances[dtype]) continue;
      const [x, y] = [expected.block(name, rows), seen.block(name, rows)];
      if (!x || !y) continue;
      for (const { id, holds } of criteria) if (first[id] === undefined && !holds(x, y, dtype)) first[id] = name;
    }
    return { allclose: first.allclose, cosine: first.cosine, relative: first.relative };
  } finally {
    a.close();
    b.close();
  }
}
