/** Numbers from base64 of little-endian float32. */
export function floats(text: string): Float32Array {
  return new Float32Array(bytes(text).buffer);
}

/** Numbers from base64 of little-endian uint32. */
export function integers(text: string): Uint32Array {
  return new Uint32Array(bytes(text).buffer);
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}

/** A number as an engineer writes it: four digits, powers of ten where they are needed. */
export function short(x: number | null | undefined): string {
  if (x === null || x === undefined) return "–";
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  const text = size !== 0 && (size >= 1e5 || size < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  return text.replace("-", "−").replace("e+", "e").replace("e−", "e-");
}

/** 12345 as 12,345. */
export function count(n: number): string {
  return n.toLocaleString("en");
}

/** 0.99987 as 99.98%: never rounded up to what it is not. */
export function percent(share: number): string {
  return `${(Math.floor(share * 10_000) / 100).toFixed(share === 1 ? 0 : 2)}%`;
}
