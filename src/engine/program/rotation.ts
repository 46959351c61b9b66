/** RoPE of the heads of one value. */
export interface Rotation {
  readonly heads: number;
  readonly headDim: number;
  /** Angle per position of each channel pair, [headDim / 2]. */
  readonly inverseFrequencies: Float64Array;
  readonly attentionFactor: number;
}

/** Whether two rotations turn a channel pair at a position by the same angle. */
export function turnAlike(a: Rotation, b: Rotation): boolean {
  const { inverseFrequencies: first } = a;
  const { inverseFrequencies: second } = b;
  if (a.attentionFactor !== b.attentionFactor || first.length !== second.length) return false;
  return first.every((frequency, i) => frequency === second[i]);
}
