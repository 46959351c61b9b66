/** Codes of a matrix by its rows: `bits` each, the lowest bits of a byte first. */
export interface CodeRows {
  readonly rowBytes: number;
  /** Bytes that are kept in memory for it. */
  readonly heldBytes: number;
  /** The bytes of rows `first` to `first + count - 1`. */
  read(first: number, count: number): Uint8Array;
}

/** Takes the codes of one row, 2, 4 or 8 bits each, out of its bytes. */
export function unpackRow(bytes: Uint8Array, start: number, bits: number, codes: Uint8Array): void {
  if (bits === 8) {
    codes.set(bytes.subarray(start, start + codes.length));
    return;
  }
  if (bits === 4) {
    for (let i = 0, at = start; i < codes.length; i += 2, at++) {
      const byte = bytes[at]!;
      codes[i] = byte & 15;
      // A write beyond the last element of an odd row is none.
      codes[i + 1] = byte >> 4;
    }
    return;
  }
  for (let i = 0; i < codes.length; i++) codes[i] = (bytes[start + (i >> 2)]! >> ((i & 3) * 2)) & 3;
}

/** Rows that a file holds one after the other. */
export function storedRows(rowBytes: number, read: (first: number, count: number) => Uint8Array): CodeRows {
  return { rowBytes, heldBytes: 0, read };
}

function heldRows(bytes: Uint8Array, rowBytes: number): CodeRows {
  return {
    rowBytes,
    heldBytes: bytes.byteLength,
    read: (first, count) => bytes.subarray(first * rowBytes, (first + count) * rowBytes),
  };
}

/** Elements of a square that is turned at a time: its lines stay in the first-level cache. */
const tile = 64;

/** Words [height, width] whose fields lie along the height, as rows [width] of such words. */
export function turnedWords(words: Uint32Array, height: number, width: number): CodeRows {
  const turned = new Uint32Array(words.length);
  for (let top = 0; top < height; top += tile) {
    for (let left = 0; left < width; left += tile) {
      const bottom = Math.min(height, top + tile);
      const right = Math.min(width, left + tile);
      for (let x = left; x < right; x++)
        for (let y = top; y < bottom; y++) turned[x * height + y] = words[y * width + x]!;
    }
  }
  return heldRows(new Uint8Array(turned.buffer), height * 4);
}

/**
 * Words [height, width] of eight 4-bit fields along the width, field k of a word being column `order[k]` of its eight, as
 * rows [width · 8] of 4-bit codes [height].
 */
export function turnedFields(words: Uint32Array, height: number, width: number, order: readonly number[]): CodeRows {
  const rowBytes = Math.ceil(height / 2);
  const out = new Uint8Array(width * 8 * rowBytes);
  for (let top = 0; top < height; top += tile) {
    const bottom = Math.min(height, top + tile);
    for (let x = 0; x < width; x++) {
      for (let y = top; y < bottom; y++) {
        const word = words[y * width + x]!;
        const at = y >> 1;
        const high = (y & 1) * 4;
        for (let k = 0; k < 8; k++) {
          out[(x * 8 + order[k]!) * rowBytes + at]! |= ((word >>> (4 * k)) & 15) << high;
        }
      }
    }
  }
  return heldRows(out, rowBytes);
}

/** Fields of `bits` each of words [height, width] along the width: [height, width · 32 / bits], in the order given. */
export function fields(words: Uint32Array, bits: number, order?: readonly number[]): Float64Array {
  const each = 32 / bits;
  const mask = 2 ** bits - 1;
  const out = new Float64Array(words.length * each);
  for (let w = 0; w < words.length; w++) {
    for (let k = 0; k < each; k++) out[w * each + (order ? order[k]! : k)] = (words[w]! >>> (k * bits)) & mask;
  }
  return out;
}
