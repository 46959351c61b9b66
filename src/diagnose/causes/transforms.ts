/** What a fault makes of a right result: the classes that causes and faults are told by. */
export const transforms = {
  T1: { title: "relabelling", meaning: "the right numbers under other indices: a permutation known from two layouts" },
  T2: { title: "address error", meaning: "the right buffer read with other strides or another offset" },
  T3: { title: "index map", meaning: "rows fetched by a wrong map from the host: holes, duplicates, other requests" },
  T4: { title: "key set", meaning: "attention over other keys than meant: a mask, a window, a length" },
  T5: { title: "rotation", meaning: "pairs of channels turned by other angles" },
  T6: { title: "gain", meaning: "rows, channels or everything multiplied by a number" },
  T7: { title: "temperature", meaning: "scores scaled or bent before the softmax" },
  T8: { title: "bit reinterpretation", meaning: "the right bits read as another type" },
  T9: { title: "quantisation", meaning: "numbers through a narrow type, or through wrong scales or zero points" },
  T10: { title: "saturation", meaning: "a range left, or cut off: infinity, NaN, zero or a limit where more belongs" },
  T11: { title: "missing or extra term", meaning: "a bias, a residual or a branch added no times, or several times" },
  T12: {
    title: "wrong operand",
    meaning: "the right op on another value: another layer, another port, an older content",
  },
  T13: { title: "order", meaning: "two steps exchanged, left out or done twice" },
  T14: { title: "coverage", meaning: "a part that nobody wrote: zeros or what stood there before" },
  T15: { title: "reduction algebra", meaning: "parts of a sum or of a softmax put together by a wrong rule" },
  T16: { title: "rounding", meaning: "an intermediate kept in fewer bits than is legal" },
  T17: { title: "race", meaning: "results that vary between runs of the same bits" },
  T18: { title: "capture constant", meaning: "a number frozen when a graph was captured" },
  T19: { title: "parameter", meaning: "another weight or setting than the checkpoint's and the config's" },
  T20: { title: "observer", meaning: "the record is wrong and the run is not" },
} as const;

/** T1 to T20. */
export type Transform = keyof typeof transforms;
