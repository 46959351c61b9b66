import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { checkMetadata } from "./metadata.js";
import { overwrittenRecords } from "./observer.js";
import { checkParameters } from "./parameters.js";
import { differingRanks } from "./replicas.js";
import { withRightReaders } from "./right-readers.js";
import { checkSeams, type SeamReport } from "./seams.js";

/** What the records say by themselves, without a rewrite of the spec. */
export interface RecordReport {
  readonly causes: readonly DirectCause[];
  readonly metadata: { readonly causes: readonly DirectCause[]; readonly checked: readonly string[] };
  readonly seams: SeamReport;
  /** Failing units that are still to be explained: the others are wrong as records only. */
  readonly rest: readonly UnitCheck[];
}

/** Second: metadata, seams, caches and parameters against what they must be, and records that were overwritten. */
export function examine(investigation: Investigation, failing: readonly UnitCheck[]): RecordReport {
  const metadata = checkMetadata(investigation);
  const parameters = checkParameters(investigation);
  const ranks = differingRanks(investigation, failing);
  const tables = metadata.causes.filter(({ unit }) => unit === "kv_indices");
  const compared = checkSeams(investigation, new Set(tables.map(({ step }) => step)));
  const seams = { ...compared, causes: withRightReaders(investigation, compared.causes, failing) };
  const right = new Set(seams.causes.flatMap(({ readers = [] }) => readers));
  const left = failing.filter(({ node }) => !ranks.settled.has(node.name) && !right.has(node.name));
  const { observed, rest } = overwrittenRecords(investigation, left);
  const causes = [...metadata.causes, ...seams.causes, ...parameters.causes, ...ranks.causes, ...observed];
  return { causes, metadata, seams, rest };
}
