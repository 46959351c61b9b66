import type { DecodeOptions } from "../run/path.js";
import type { Backend, Launch, StagingBuffer } from "./backend.js";
import type { BatchShape } from "./batch-buffer.js";
import { historySteps, type TokenChoice, unpackTokens } from "./token-choice.js";

/** Submits steps ahead of their read-back: at most three reads are in flight. */
export async function decodeAhead(
  backend: Backend,
  choice: TokenChoice,
  launches: readonly Launch[],
  shape: BatchShape,
  options: DecodeOptions,
): Promise<Int32Array[]> {
  const perRead = Math.min(options.stepsPerRead ?? 8, options.steps, historySteps / 4);
  const rowBytes = choice.stepBytes;
  const tokens: Int32Array[] = [];
  const pending: { staging: StagingBuffer; bytes: Promise<ArrayBuffer>; count: number }[] = [];
  const idle: StagingBuffer[] = [];
  let submitted = 0;
  let stopped = false;
  const collect = async () => {
    const { staging, bytes, count } = pending.shift()!;
    const words = new Uint32Array(await bytes);
    idle.push(staging);
    for (let i = 0; i < count; i++) {
      const row = words.subarray((i * rowBytes) / 4);
      const { tokenIds, finite } = unpackTokens(row, shape.sequences);
      if (options.onTokens?.(tokens.length, tokenIds, finite) === false) stopped = true;
      tokens.push(tokenIds);
    }
  };
  while (submitted < options.steps && !stopped) {
    // The first reads are short, so that the device starts before the host has encoded a whole one.
    const count = Math.min(perRead, Math.max(1, submitted), options.steps - submitted);
    const staging = idle.pop() ?? backend.staging(perRead * rowBytes);
    const commands = backend.commands();
    commands.launch(launches, shape, count);
    // The history is a ring: a read that passes its end is two copies.
    const first = submitted % historySteps;
    const head = Math.min(count, historySteps - first);
    commands.copy(choice.history, first * rowBytes, staging, 0, head * rowBytes);
    if (count > head) commands.copy(choice.history, 0, staging, head * rowBytes, (count - head) * rowBytes);
    commands.submit();
    submitted += count;
    pending.push({ staging, bytes: staging.read(), count });
    if (pending.length >= 3) await collect();
  }
  while (pending.length > 0) await collect();
  for (const staging of idle) staging.destroy();
  return tokens;
}
