const shortest = 0.02;
const longest = 0.5;

/** Sleeps in milliseconds that grow while something is awaited: what is quick is not kept waiting, what is slow not asked often. */
let sleep = shortest;
let awaited = 0;
let runs = false;
/** A cell that nobody changes, so that waiting for it is sleeping; made when needed, since not every browser has such memory. */
let never: Int32Array | undefined;

function rest(): void {
  if (awaited === 0) {
    runs = false;
    return;
  }
  never ??= new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(never, 0, 0, sleep);
  sleep = Math.min(1.25 * sleep, longest);
  setImmediate(rest);
}

/**
 * Awaits a GPU in software. Dawn's Node binding asks the device again and again without a pause until something pending
 * is done: with a software GPU that takes the very processor which computes. Here the thread sleeps between two questions.
 */
export async function awaitPatiently<T>(pending: Promise<T>): Promise<T> {
  awaited++;
  sleep = shortest;
  if (!runs) {
    runs = true;
    setImmediate(rest);
  }
  try {
    return await pending;
  } finally {
    awaited--;
  }
}
