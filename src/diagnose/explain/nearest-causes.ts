import type { Nearness } from "../bits/nearness.js";
import type { CauseId } from "../causes/catalogue.js";
import type { Hypothesis } from "../causes/hypothesis.js";

/** A cause that brings a unit nearer to its record and does not explain it. */
export interface NearestCause {
  readonly cause: CauseId;
  readonly site: string;
  readonly statement: string;
  /** Share of a few elements recorded bit for bit as the cause has them, and as the spec has them, where bits decide. */
  readonly equal?: number;
  readonly equalWithout?: number;
  /** Share of the spec's errors (their root mean square over a few elements) that it leaves, where bits decide nothing. */
  readonly errorsLeft?: number;
}

/** How far a rewrite stays from a record, and the spec: in bits, or in errors. */
export type Distance =
  | { readonly near: Nearness; readonly before: Nearness }
  | { readonly errors: number; readonly before: number };

const kept = 3;
/** What a cause must at least gain to be worth telling: a share of the elements, or of the errors. */
const gain = 0.05;
const mostLeft = 0.7;

/** The causes that come nearest to one unit: the best setting of each, nearest first. */
export class NearestCauses {
  readonly #byCause = new Map<CauseId, NearestCause>();

  note({ cause, site, statement }: Hypothesis, distance: Distance): void {
    let candidate: NearestCause;
    if ("near" in distance) {
      const [equal, equalWithout] = [share(distance.near), share(distance.before)];
      if (equal < equalWithout + gain) return;
      candidate = { cause, site, statement, equal, equalWithout };
    } else {
      const errorsLeft = Number((distance.errors / distance.before).toPrecision(3));
      if (!(errorsLeft <= mostLeft)) return;
      candidate = { cause, site, statement, errorsLeft };
    }
    const known = this.#byCause.get(cause);
    if (!known || merit(candidate) > merit(known)) this.#byCause.set(cause, candidate);
  }

  get best(): readonly NearestCause[] {
    return [...this.#byCause.values()].sort((a, b) => merit(b) - merit(a)).slice(0, kept);
  }
}

function share({ equal, compared }: Nearness): number {
  return Number((equal / Math.max(1, compared)).toPrecision(4));
}

function merit({ equal, errorsLeft }: NearestCause): number {
  return equal ?? 1 - (errorsLeft ?? 1);
}
