/** A step of a benchmark, on a line of its own on stderr: some take minutes. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
