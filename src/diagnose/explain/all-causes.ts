import { catalogue } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { type AssembledCause, causesOf, directCause, extended } from "./assemble.js";
import type { ExplainedFinding } from "./explainer.js";
import { spreadCauses } from "./spread.js";

/**
 * One list of causes from what rewrites explain and from what records show directly, in order of origin; causes found in
 * recorded layers are extended to unrecorded ones.
 */
export function allCauses(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  explained: readonly ExplainedFinding[],
  direct: readonly DirectCause[],
): AssembledCause[] {
  const named = causesOf(investigation, checks, explained);
  const unexplained = explained.filter(({ explanations }) => explanations.length === 0).map(({ check }) => check);
  const found = spreadCauses(investigation, unexplained, named);
  const spread = named.map((entry) => {
    const more = found.get(entry);
    return more ? extended(investigation, entry, more) : entry;
  });
  const merged = mergeCauses(groupDirect(direct), spread);
  return inOrder(investigation, merged).map((entry) => markLatent(investigation, entry));
}

function groupDirect(found: readonly DirectCause[]): AssembledCause[] {
  const byGroup = new Map<string, DirectCause[]>();
  for (const cause of found) byGroup.set(cause.group, [...(byGroup.get(cause.group) ?? []), cause]);
  return [...byGroup.values()].map(directCause);
}

/** What metadata shows and what rewrites show may be the same cause: one entry then. */
function mergeCauses(direct: readonly AssembledCause[], explained: readonly AssembledCause[]): AssembledCause[] {
  const out = [...explained];
  for (const entry of direct) {
    const same = out.findIndex(({ group }) => group === entry.group);
    if (same < 0) {
      out.push(entry);
      continue;
    }
    const other = out[same]!;
    const units = [...new Set([...entry.cause.units, ...other.cause.units])];
    const steps = [...new Set([...other.cause.steps, ...entry.cause.steps])];
    out[same] = { ...other, ...(entry.readers && { readers: entry.readers }), cause: { ...other.cause, units, steps } };
  }
  return out;
}

function inOrder(investigation: Investigation, causes: readonly AssembledCause[]): AssembledCause[] {
  const order = new Map([...investigation.graph.nodes.keys()].map((name, i) => [name, i]));
  const place = ({ cause }: AssembledCause) => Math.min(...cause.units.map((unit) => order.get(unit) ?? -1));
  return [...causes].sort((a, b) => place(a) - place(b));
}

/** A shift that all queries and keys share leaves every score as it is: harmless until unshifted keys join. */
function markLatent(investigation: Investigation, entry: AssembledCause): AssembledCause {
  const { cause } = entry;
  if (!catalogue[cause.cause].isLatentWhenShared || cause.extent.rows) return entry;
  const ropes = investigation.units().filter((node) => node.op.kind === "rope");
  const shifted = new Set(cause.units.filter((unit) => investigation.graph.find(unit)?.op.kind === "rope"));
  const uniform = ropes.length > 0 && ropes.every((node) => shifted.has(node.name));
  if (!uniform) return entry;
  const statement = `${cause.statement}; all queries and keys share it, so no score changes: latent, it becomes real as soon as unshifted keys join`;
  return { ...entry, cause: { ...cause, latent: true, statement } };
}
