import { RowTable } from "../../spec/rows.js";
import { type Batch, keyCountOf, rowCountOf } from "./batch.js";

/** The batch's rows, after a row for every key already in the cache. */
export function placeRows(batch: Batch): RowTable {
  const table = new RowTable();
  const { seqIds, tokenIds, qoIndptr } = batch;
  const unrecorded = seqIds.map((_, b) => keyCountOf(batch, b) - rowCountOf(batch, b));
  table.append({ step: 0, seqIds, tokenIds, qoIndptr, unrecorded });
  return table;
}
