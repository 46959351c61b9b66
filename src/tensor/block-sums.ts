import { type BlockSumsKernels, type BlockSumsLayout, layoutOf, roundUp } from "./block-sums-memory.js";
import { blockSumsModule } from "./block-sums-module.js";
import { byteWidth } from "./dtype.js";
import { KernelMemory } from "./kernel-memory.js";
import { floats } from "./scratch.js";
import { pathOf, type WeightFormat, type WeightPath } from "./weight-format.js";

/** A weight matrix [columns, inputs] that is read by rows: one row per output column, one after the other. */
export interface WeightSource {
  /** Fills `target` with the bytes of rows `first` to `first + count - 1`, in the dtype they are stored in. */
  readInto(target: Uint8Array, first: number, count: number): void;
}

/** The product Y = X Wᵀ that is summed. */
export interface BlockSumsRequest {
  readonly weights: WeightSource;
  readonly format: WeightFormat;
  /** X [rows, inputs]. */
  readonly x: Float64Array;
  readonly rows: number;
  readonly inputs: number;
  readonly columns: number;
  /** Output columns per block, 1 or more; the last block takes what is left. */
  readonly width: number;
  /** Sign of each output column [columns]: negative numbers subtract, others add. */
  readonly signs: Int8Array;
  /** Whether products may be taken in float32, in half the time: beside records whose own digits are far fewer. */
  readonly single?: boolean;
}

/** Inputs multiplied at a time: 4 rows and 2 block vectors of them fit the first-level cache. */
const segment = 512;

/**
 * Freivalds' check by blocks: v_b = Σ_c s_c·W_c over the output columns c of block b, and the products x_r·v_b, in
 * float64. A correct product Y has Σ_c s_c·Y_rc = x_r·v_b but for its own rounding, at the cost of one pass over W instead
 * of a multiplication. Freivalds, "Probabilistic machines can use less running time", 1977.
 */
export class BlockSums {
  readonly #memory: KernelMemory<BlockSumsKernels>;

  /** @throws Error where there is no WebAssembly with SIMD. */
  constructor() {
    this.#memory = new KernelMemory(blockSumsModule, "sums over blocks of columns");
  }

  /**
   * x_r·v_b for every row and block: [rows, ceil(columns / width)]. NaN and infinities of weights and rows reach the
   * products they belong to.
   * @throws RangeError when X or the signs are shorter than rows, inputs and columns say, or a block has no whole columns.
   */
  products(request: BlockSumsRequest): Float64Array {
    if (!request.single) return this.#products(request);
    const out = this.#products(request);
    // Beyond the range of float32 there is more to know.
    return areFinite(out) ? out : this.#products({ ...request, single: false });
  }

  #products(request: BlockSumsRequest): Float64Array {
    const { format, single = false, rows, inputs, columns, width, signs } = request;
    if (request.x.length < rows * inputs) throw new RangeError(`expected ${rows} rows of ${inputs} inputs`);
    if (signs.length < columns) throw new RangeError(`expected a sign for each of ${columns} columns`);
    if (!Number.isInteger(width) || width < 1)
      throw new RangeError(`expected blocks of 1 column or more, found ${width}`);
    const blocks = Math.ceil(columns / width);
    const out = floats(rows * blocks);
    const path = pathOf(format);
    const layout = layoutOf({
      rows,
      inputs,
      columns,
      blocks,
      readWidth: byteWidth(format.dtype),
      summedWidth: path.width,
      apart: path.apart,
      single,
    });
    this.#memory.reserve(layout.end);
    if (rows <= layout.panelRows) this.#placeRows(request, layout, 0, rows);
    for (let first = 0; first < blocks; first += layout.panelBlocks) {
      const count = Math.min(layout.panelBlocks, blocks - first);
      this.#sum(request, path, layout, first * width, Math.min(columns, (first + count) * width));
      for (let row = 0; row < rows; row += layout.panelRows) {
        const taken = Math.min(layout.panelRows, rows - row);
        if (rows > layout.panelRows) this.#placeRows(request, layout, row, taken);
        this.#multiply(layout, inputs, taken, count, single);
        const products = new Float64Array(this.#memory.buffer, layout.out, taken * layout.panelBlocks);
        for (let r = 0; r < taken; r++) {
          const from = r * layout.panelBlocks;
          out.set(products.subarray(from, from + count), (row + r) * blocks + first);
        }
      }
    }
    return out;
  }

  /** Block vectors of output columns `first` to `end - 1`, of which the first begins a block. */
  #sum(
    { weights, format, inputs, width, signs, single }: BlockSumsRequest,
    path: WeightPath,
    layout: BlockSumsLayout,
    first: number,
    end: number,
  ) {
    const { buffer } = this.#memory;
    const { kernels } = this.#memory;
    const rowBytes = inputs * byteWidth(format.dtype);
    const summedBytes = inputs * path.width;
    const vectors = new Float64Array(buffer, layout.vectors, layout.panelBlocks * layout.stride).fill(0);
    const masks = new Uint32Array(buffer, layout.masks, 2 * layout.chunkRows);
    for (let from = first; from < end; from += layout.chunkRows) {
      const count = Math.min(layout.chunkRows, end - from);
      const bytes = new Uint8Array(buffer, layout.raw, count * rowBytes);
      weights.readInto(bytes, from, count);
      for (let c = 0; c < count; c++) {
        const negative = signs[from + c]! < 0;
        masks[2 * c] = negative ? path.mask[0] : 0;
        masks[2 * c + 1] = negative ? path.mask[1] : 0;
      }
      path.prepare(kernels, bytes, layout, count * inputs);
      for (let c = 0; c < count; ) {
        const block = Math.floor((from + c) / width);
        const next = Math.min(count, (block + 1) * width - from);
        const vector = layout.vectors + (block - first / width) * layout.stride * 8;
        kernels[path.add](layout.weights + c * summedBytes, next - c, inputs, layout.masks + c * 8, vector);
        c = next;
      }
    }
    // What the kernels left beyond the last input may be NaN, which zeros of X would not remove.
    for (let at = inputs; at < vectors.length; at += layout.stride) vectors.fill(0, at, at - inputs + layout.stride);
    if (single) kernels.narrowFloat64(layout.vectors, layout.narrowed, vectors.length);
  }

  #placeRows(
    { x, inputs, single }: BlockSumsRequest,
    { x: start, stride }: BlockSumsLayout,
    first: number,
    count: number,
  ): void {
    const rows = roundUp(count, 4);
    const Numbers = single ? Float32Array : Float64Array;
    const placed = new Numbers(this.#memory.buffer, start, rows * stride);
    for (let r = 0; r < rows; r++) {
      const from = (first + r) * inputs;
      if (r < count) placed.set(x.subarray(from, from + inputs), r * stride);
      placed.fill(0, r * stride + (r < count ? inputs : 0), (r + 1) * stride);
    }
  }

  #multiply(layout: BlockSumsLayout, inputs: number, rows: number, blocks: number, single: boolean): void {
    const { kernels, buffer } = this.#memory;
    const height = roundUp(rows, 4);
    const bytes = single ? 4 : 8;
    const vectors = single ? layout.narrowed : layout.vectors;
    const multiply = single ? kernels.multiplySingle : kernels.multiply;
    new Float64Array(buffer, layout.out, height * layout.panelBlocks).fill(0);
    for (let from = 0; from < inputs; from += segment) {
      const length = Math.min(segment, roundUp(inputs - from, 64 / bytes)) * bytes;
      const stride = layout.stride * bytes;
      const at = from * bytes;
      const wide = roundUp(blocks, 2);
      multiply(layout.x + at, height, vectors + at, wide, stride, length, layout.out, layout.panelBlocks * 8);
    }
  }
}

function areFinite(values: Float64Array): boolean {
  for (const value of values) if (!Number.isFinite(value)) return false;
  return true;
}
