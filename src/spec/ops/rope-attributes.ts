/** How channel pairs rotate. */
export interface RopeAttributes {
  readonly headDim: number;
  /** Channels of a head that rotate; the rest pass through. */
  readonly rotaryDim: number;
  /** Angle per position of each pair, [rotaryDim / 2]. RoPE scaling lives here and in `attentionFactor` alone. */
  readonly inverseFrequencies: Float64Array;
  /** Multiplies cos and sin (YaRN). */
  readonly attentionFactor: number;
  /** Other frequencies for every row of a step that reaches beyond so many positions (LongRoPE). */
  readonly beyond?: { readonly positions: number; readonly inverseFrequencies: Float64Array } | undefined;
  /** "half": channel j pairs with j + rotaryDim/2 (NeoX, Hugging Face); "interleaved": 2j with 2j + 1 (GPT-J). */
  readonly pairing: "half" | "interleaved";
  /** Type that positions, frequencies, angles and their cosines pass through, where a rewrite says so. */
  readonly angleType?: "bfloat16" | "float16";
  /** Frequency of each channel, [rotaryDim], where a rewrite gives the two channels of a pair different ones. */
  readonly channelFrequencies?: Float64Array;
  /** Position of a row; derived from token counts unless a rewrite says otherwise. */
  readonly positionOf?: (row: number, position: number) => number;
  /** Coefficients of a rewrite: y = c·cos·x - s·sin·x' with (c, s) = (1, 1) as the meaning. */
  readonly cosine?: (cos: number, sin: number) => number;
  readonly sine?: (cos: number, sin: number) => number;
}
