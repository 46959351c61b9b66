export const vocabulary = 301;
export const sequences = 64;
/** Where the arrays of the batch begin. */
export const at = {
  positionsAt: 0,
  qoIndptrAt: 64,
  kvLengthAt: 129,
  generatedAt: 193,
  kvIndptrAt: 257,
  slotsAt: 322,
  tokenIdsAt: 386,
};

/** What every sequence asks of its draw, each with a seed of its own. */
export function requests(temperature: number, topP: number): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(sequences * 16));
  for (let b = 0; b < sequences; b++) {
    view.setFloat32(b * 16, temperature, true);
    view.setFloat32(b * 16 + 4, topP, true);
    view.setUint32(b * 16 + 8, 1000 + b, true);
  }
  return new Uint8Array(view.buffer);
}

/** The same logits for every sequence. */
export function repeated(logits: Float32Array): Float32Array<ArrayBuffer> {
  const rows = new Float32Array(sequences * vocabulary);
  for (let b = 0; b < sequences; b++) rows.set(logits, b * vocabulary);
  return rows;
}
