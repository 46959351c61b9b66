/** Types that tensor cores multiply. */
export const narrowTypes = ["bfloat16", "float16"] as const;
export type NarrowType = (typeof narrowTypes)[number];

/** What a launch says of a kernel's blocks. */
export interface KernelBlock {
  readonly threads: number;
  /** Shared memory beside what the kernel itself names; no device has less than 96 KiB. */
  readonly sharedBytes: number;
}

/** A kernel on tensor cores, but for the type of its operands. */
export interface TensorBlock extends KernelBlock {
  readonly variant: string;
}

/** A block's rows × weight rows of a product. */
export interface TensorTile extends TensorBlock {
  readonly rows: number;
  readonly across: number;
  /** Blocks that a multiprocessor runs at once, and how long they take for 1024 columns: measured on an H200, µs. */
  readonly atOnce: number;
  readonly price: number;
}

export const tensorTiles: readonly TensorTile[] = [
  tile(128, 128, { stages: 3, warps: 8, atOnce: 2, price: 29 }),
  tile(64, 128, { stages: 3, warps: 4, atOnce: 3, price: 24 }),
  tile(64, 128, { stages: 4, warps: 4, atOnce: 2, price: 21.5 }),
  tile(64, 64, { stages: 4, warps: 4, atOnce: 3, price: 14 }),
  tile(64, 32, { stages: 4, warps: 4, atOnce: 4, price: 12 }),
  tile(32, 32, { stages: 4, warps: 4, atOnce: 6, price: 10.8 }),
];

function tile(
  rows: number,
  across: number,
  block: { stages: number; warps: number; atOnce: number; price: number },
): TensorTile {
  const { stages, warps, atOnce, price } = block;
  // Stages of 64 columns of 16 bits.
  const sharedBytes = (rows + across) * 64 * 2 * stages;
  return { variant: `${rows}x${across}x${stages}`, rows, across, threads: warps * 32, sharedBytes, atOnce, price };
}

/** The tile whose blocks are through a product first: as many rounds of them as it takes, each at its price. */
export function cheapestTile(rows: number, weightRows: number, multiprocessors: number): TensorTile {
  const cost = ({ rows: height, across, atOnce, price }: TensorTile) => {
    const blocks = Math.ceil(rows / height) * Math.ceil(weightRows / across);
    return Math.ceil(blocks / (multiprocessors * atOnce)) * price;
  };
  return tensorTiles.reduce((best, candidate) => (cost(candidate) < cost(best) ? candidate : best));
}

/** Channels that heads are filled up to, and query heads that share an attention's block. */
export interface TensorHeads extends TensorBlock {
  readonly channels: number;
  readonly shared: number;
}

export const tensorHeads: readonly TensorHeads[] = [heads(64, 1), heads(128, 1), heads(128, 2), heads(256, 1)];

function heads(channels: number, shared: number): TensorHeads {
  // Queries, and two tiles of keys and of values.
  const lines = shared * 64 + 4 * (channels === 256 ? 32 : 64);
  return { variant: `${channels}_${shared}`, channels, shared, threads: 128, sharedBytes: lines * channels * 2 };
}

/** Blocks of every variant of a kernel on tensor cores. */
export function tensorBlocks(blocks: readonly TensorBlock[]): Record<string, KernelBlock> {
  return Object.fromEntries(
    narrowTypes.flatMap((type) =>
      blocks.map(({ variant, threads, sharedBytes }) => [`${type}_${variant}`, { threads, sharedBytes }]),
    ),
  );
}
