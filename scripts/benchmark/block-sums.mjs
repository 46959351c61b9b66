// How long block sums take over all matrices of a checkpoint, beside sha256sum of the same files and plain JavaScript.
//
// usage: npm run build && node scripts/benchmark/block-sums.mjs MODEL_FOLDER [ROWS] [BLOCK_WIDTH] [REPEATS]
//
// Prints seconds on one core, the median of REPEATS (5) each: block vectors alone, those and the products with ROWS (64)
// random rows, and on the part of the checkpoint that fits (64 MB), scaled to all of it, the same in plain JavaScript.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { BlockSums } from "../../dist/tensor/block-sums.js";
import { Checkpoint } from "../../dist/tensor/checkpoint.js";
import { byteWidth, decode } from "../../dist/tensor/dtype.js";
import { randomSigns } from "../../dist/tensor/random-signs.js";

const [folder, rowCount = "64", blockWidth = "16", repeatCount = "5"] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node scripts/benchmark/block-sums.mjs MODEL_FOLDER [ROWS] [BLOCK_WIDTH] [REPEATS]");
  process.exit(2);
}
const rows = Number(rowCount);
const width = Number(blockWidth);
const repeats = Number(repeatCount);
const plainLimit = 2 ** 26;

const checkpoint = new Checkpoint(folder);
const matrices = [...checkpoint.names()]
  .map((name) => ({ name, shape: checkpoint.shape(name), dtype: checkpoint.dtype(name) }))
  .filter(({ shape }) => shape.length === 2)
  .map(({ name, shape: [columns, inputs], dtype }) => ({
    name,
    columns,
    inputs,
    dtype,
    bytes: columns * inputs * byteWidth(dtype),
    signs: randomSigns(1, columns),
  }));
const bytes = matrices.reduce((sum, matrix) => sum + matrix.bytes, 0);
const x = Float64Array.from(
  { length: rows * Math.max(...matrices.map(({ inputs }) => inputs)) },
  () => Math.random() - 0.5,
);
const sums = new BlockSums();

function seconds(run) {
  const times = Array.from({ length: repeats }, () => {
    const start = performance.now();
    run();
    return (performance.now() - start) / 1000;
  });
  return times.sort((a, b) => a - b)[repeats >> 1];
}

function products(rows) {
  for (const { name, columns, inputs, dtype, signs } of matrices) {
    const weights = { readInto: (target, first) => checkpoint.readInto(name, target, first) };
    sums.products({ weights, format: { dtype }, x, rows, inputs, columns, width, signs });
  }
}

function plainProducts({ name, columns, inputs, dtype, signs }) {
  const out = new Float64Array(rows * Math.ceil(columns / width));
  for (let first = 0; first < columns; first += width) {
    const count = Math.min(width, columns - first);
    const values = decode(checkpoint.bytes(name, first, count), dtype);
    const vector = new Float64Array(inputs);
    for (let c = 0; c < count; c++) {
      const sign = signs[first + c];
      for (let i = 0; i < inputs; i++) vector[i] += sign * values[c * inputs + i];
    }
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let i = 0; i < inputs; i++) sum += x[r * inputs + i] * vector[i];
      out[r * Math.ceil(columns / width) + first / width] = sum;
    }
  }
  return out;
}

const part = [];
let partBytes = 0;
for (const matrix of matrices) {
  if (partBytes > 0 && partBytes + matrix.bytes > plainLimit) continue;
  part.push(matrix);
  partBytes += matrix.bytes;
}
const files = readdirSync(folder).filter((file) => file.endsWith(".safetensors") && file.startsWith("model"));

console.log(`${matrices.length} matrices, ${(bytes / 1e6).toFixed(0)} MB; ${rows} rows, blocks of ${width} columns`);
const report = (what, time) =>
  console.log(`${what.padEnd(34)}${time.toFixed(3)} s  ${(bytes / time / 1e9).toFixed(2)} GB/s`);
products(0);
const buffer = new Uint8Array(2 ** 18);
function readAll() {
  for (const { name, columns, inputs, dtype } of matrices) {
    const rowBytes = inputs * byteWidth(dtype);
    const count = Math.max(1, Math.floor(buffer.length / rowBytes));
    for (let first = 0; first < columns; first += count) {
      checkpoint.readInto(name, buffer.subarray(0, Math.min(count, columns - first) * rowBytes), first);
    }
  }
}
report("reading alone", seconds(readAll));
report(
  "block vectors",
  seconds(() => products(0)),
);
report(
  "block vectors and products",
  seconds(() => products(rows)),
);
report(
  "sha256sum",
  seconds(() =>
    execFileSync(
      "sha256sum",
      files.map((file) => join(folder, file)),
    ),
  ),
);
report("plain JavaScript, scaled", seconds(() => part.map(plainProducts)) * (bytes / partBytes));
