/**
 * A progress line on stderr, rewritten in place; silent when stderr is no terminal, so that logs stay clean.
 * Returns the callback and a function that clears the line.
 */
export function progressLine(stream: NodeJS.WriteStream = process.stderr): {
  report: (stage: string, done: number) => void;
  clear: () => void;
} {
  let last = 0;
  if (!stream.isTTY) return { report: () => {}, clear: () => {} };
  return {
    report(stage, done) {
      const now = Date.now();
      if (now - last < 80) return;
      last = now;
      stream.write(`\r\u001b[K${stage}${done > 0 ? ` ${Math.round(100 * done)}%` : ""}`);
    },
    clear: () => {
      stream.write("\r\u001b[K");
    },
  };
}
