import { CaptureObservations } from "../capture/observations.js";
import { openCapture } from "../capture/reader.js";
import { drawSample, type SampleLimits } from "../diagnose/sample.js";
import { compareBlock, type Statistics, statisticsOf } from "../diagnose/statistics.js";
import { Evaluator } from "../spec/evaluator.js";
import type { Precision } from "../spec/noise.js";
import { floatFormat } from "../tensor/dtype.js";
import type { LabModel } from "./model.js";

/**
 * The statistics of every recorded value of a capture, each evaluated from its own recorded inputs by the spec alone:
 * what the noise model says, before any diagnosis.
 */
export function unitStatistics(
  path: string,
  model: LabModel,
  precision: Precision,
  limits: SampleLimits = { rows: 64, columns: 512 },
): Map<string, Statistics> {
  const capture = openCapture(path);
  try {
    const observations = new CaptureObservations(capture, model.graph);
    const { parameters } = model;
    const { graph, rows } = observations;
    const evaluator = new Evaluator({ graph, parameters, rows, precision, observations, noise: true });
    const out = new Map<string, Statistics>();
    for (const node of graph.nodes.values()) {
      const dtype = observations.has(node.name) ? observations.dtype(node.name) : undefined;
      if (!dtype || !floatFormat(dtype)) continue;
      const sample = drawSample(node, observations.outputRows(node.name), rows, limits);
      const block = evaluator.evaluate(node.name, sample.rows, sample.columns);
      const observed = new Float64Array(sample.rows.length * sample.columns.length);
      sample.rows.forEach((row, i) => {
        const { value } = observations.output(node.name, row)!;
        sample.columns.forEach((column, c) => {
          observed[i * sample.columns.length + c] = value[column]!;
        });
      });
      out.set(node.name, statisticsOf(compareBlock(block, observed, dtype, sample.rows, sample.columns)));
    }
    return out;
  } finally {
    capture.close();
  }
}
