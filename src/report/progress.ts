/** Share of a stage after which what it took so far says how long it will take. */
const telling = 0.05;

/**
 * A progress line on stderr, rewritten in place, with an estimate of what is left of the stage; silent when stderr is no
 * terminal, so that logs stay clean.
 * Returns the callback and a function that clears the line.
 */
export function progressLine(stream: NodeJS.WriteStream = process.stderr): {
  report: (stage: string, done: number) => void;
  clear: () => void;
} {
  let last = 0;
  let stage = "";
  let start = 0;
  if (!stream.isTTY) return { report: () => {}, clear: () => {} };
  return {
    report(current, done) {
      const now = Date.now();
      if (current !== stage) {
        stage = current;
        start = now;
      } else if (now - last < 80) return;
      last = now;
      const left = Math.ceil(((now - start) * (1 - done)) / done / 1000);
      const estimate = done >= telling && left > 1 ? `, about ${left} s left` : "";
      stream.write(`\r\u001b[K${stage}${done > 0 ? ` ${Math.round(100 * done)}%${estimate}` : ""}`);
    },
    clear: () => {
      stream.write("\r\u001b[K");
    },
  };
}
