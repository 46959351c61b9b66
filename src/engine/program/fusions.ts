/** What a path fuses. Everything off is the spec, op by op. */
export interface Fusions {
  /** RMSNorm and the q, k and v projections in one. */
  readonly projection: boolean;
  /** QK-norm, RoPE and the KV append in one. */
  readonly rotary: boolean;
  /** That one inside the decode attention kernel. */
  readonly prologue: boolean;
  /** The merge of split attention states inside the output projection. */
  readonly merge: boolean;
  /** Residual additions inside the projections before them. */
  readonly residual: boolean;
  /** RMSNorm, gate and up projections, SiLU and their product in one. */
  readonly gate: boolean;
}

export const noFusions: Fusions = {
  projection: false,
  rotary: false,
  prologue: false,
  merge: false,
  residual: false,
  gate: false,
};
export const allFusions: Fusions = {
  projection: true,
  rotary: true,
  prologue: true,
  merge: true,
  residual: true,
  gate: true,
};
