import { type Capture, isPagedRecord } from "../capture/capture.js";
import { CaptureWriter } from "../capture/writer.js";
import { byteWidth } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";

/**
 * Writes a recording as a capture directory, a step at a time. Views of different parts of one storage become storages of
 * their own; strides stay.
 * @returns how many values were written.
 * @throws InputError when the directory is there, or the recording is a padded batch, which only a plain file can hold.
 */
export function writeCapture(capture: Capture, directory: string, model: Readonly<Record<string, unknown>>): number {
  if (capture.paddings)
    throw new InputError(`${capture.path}: expected a run without padding; diagnose this recording as it is`);
  const { runtime, dims } = capture.manifest;
  const writer = new CaptureWriter(directory, { model, runtime, dims });
  let written = 0;
  for (const step of capture.steps) {
    writer.step(step);
    for (const record of capture.records) {
      if (record.step !== step.step || isPagedRecord(record)) continue;
      const { view, source, first = 0 } = record;
      const width = byteWidth(view.dtype);
      const elements = view.shape.reduce((sum, n, k) => sum + (n - 1) * view.strides[k]!, 1);
      const bytes = source.file.readBytes(source.entry, first * width, elements * width);
      const storage = `${view.storage}+${first}x${elements}`.slice(-200);
      writer.dense(record.name, record.role, { ...view, storage }, bytes, record.by);
      written++;
    }
  }
  writer.finishStep();
  return written;
}
