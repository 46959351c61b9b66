import { isPagedRecord } from "../../capture/capture.js";
import { declareDecoder } from "../../spec/models/decoder.js";
import { decode, roundTo } from "../../tensor/dtype.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation } from "../check/investigation.js";

const chunk = 2 ** 18;

/** Compares parameters that the runtime recorded as it held them with the checkpoint, element by element. */
export function checkParameters({ capture, parameters, config }: Investigation): {
  causes: DirectCause[];
  compared: string[];
} {
  const layers = new Map(declareDecoder(config).parameters.map(({ name, layer }) => [name, layer]));
  const causes: DirectCause[] = [];
  const compared: string[] = [];
  for (const record of capture.records) {
    if (isPagedRecord(record)) continue;
    const shape = parameters.shape(record.name);
    if (!shape || record.view.shape.join() !== shape.join()) continue;
    compared.push(record.name);
    const rowWidth = shape.length < 2 ? shape[0]! : shape.slice(1).reduce((product, n) => product * n, 1);
    const rowCount = shape.length < 2 ? 1 : shape[0]!;
    const rowsPerChunk = Math.max(1, Math.floor(chunk / rowWidth));
    let different = 0;
    let first: number | undefined;
    for (let row = 0; row < rowCount; row += rowsPerChunk) {
      const count = Math.min(rowsPerChunk, rowCount - row);
      const expected = parameters.rows(record.name, row, count);
      const width = record.source.entry.byteLength / (rowCount * rowWidth);
      const bytes = record.source.file.readBytes(record.source.entry, row * rowWidth * width, count * rowWidth * width);
      const found = decode(bytes, record.view.dtype);
      for (let i = 0; i < expected.length; i++) {
        const x = roundTo(expected[i]!, record.view.dtype);
        if (found[i] === x || (Number.isNaN(found[i]!) && Number.isNaN(x))) continue;
        different++;
        first ??= row * rowWidth + i;
      }
    }
    if (different === 0) continue;
    causes.push({
      ...classed("parameter-differs"),
      unit: record.name,
      step: record.step,
      layer: layers.get(record.name),
      parameters: { elements: different, first: first ?? 0 },
      statement: `${record.name} in memory is not the checkpoint's: ${different} of ${rowCount * rowWidth} elements differ, the first at index ${first}`,
      group: `parameter-differs ${record.name}`,
      samples: rowCount * rowWidth,
    });
  }
  return { causes, compared };
}
