/** How the causes of a verdict were proven. */
export interface Proof {
  /** Units that come out to within rounding with the causes written into the spec. */
  readonly reproduced: { matched: number; of: number };
  /** The same with one cause left out. */
  readonly necessity: readonly { without: number; matched: number }[];
  /** The whole run from its tokens. */
  readonly fromTokens: FromTokens | null;
  readonly repair: { tokenId: number; text: string | null; continuation: string | null } | null;
  /** Why a part of the proof is missing. */
  readonly notes: readonly string[];
}

/** The whole run from its tokens, with the causes. */
export interface FromTokens {
  /** Layers whose free-running stream shows the recorded magnitude (or the same zeros or NaN), of all recorded ones. */
  readonly layers: { matched: number; of: number };
  readonly recordedToken: number;
  readonly reproducedToken: number;
  /** Share of the free runs (each rounding differently) that end in the recorded token. */
  readonly agreement: number;
  readonly text: string | null;
}
