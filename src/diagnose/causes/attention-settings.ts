import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import type { CauseId } from "./catalogue.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { type Description, hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** One change of attention's settings as a hypothesis; its group is its cause and its parameters, also when fitted. */
export type Change<Id extends CauseId = CauseId> = (
  cause: Id,
  change: Partial<AttentionAttributes>,
  statement: string,
  parameters?: Record<string, number | string>,
  more?: Pick<Description, "fitted" | "heldOut" | "kind">,
) => Hypothesis;

/** Searches among the settings of attention for causes of `entries`. */
export function attendingSearches<T extends CauseEntries>(entries: T) {
  const hypothesis = hypothesesOf(entries);
  return <Id extends keyof T & CauseId>(
    causes: readonly Id[],
    rewrites: (one: Change<Id>, a: AttentionAttributes, proposal: Proposal) => Hypothesis[],
    {
      stage = "large",
      fits = false,
      appliesTo = () => true,
    }: Partial<Pick<Search, "stage" | "fits" | "appliesTo">> = {},
  ): Search => ({
    causes,
    stage,
    fits,
    appliesTo: (proposal) => isAttention(proposal) && appliesTo(proposal),
    rewrites(proposal) {
      const a = proposal.site.op.attributes as unknown as AttentionAttributes;
      const one: Change<Id> = (cause, change, statement, parameters = {}, more = {}) =>
        hypothesis(cause, proposal.site, [replaced(proposal.site, { op: attention({ ...a, ...change }) })], {
          ...more,
          statement,
          parameters,
          group: `${cause} ${JSON.stringify(parameters)}`,
        });
      return rewrites(one, a, proposal);
    },
  });
}

const isAttention = ofKind("attention");
