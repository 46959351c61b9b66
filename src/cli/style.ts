import pc from "picocolors";

/** Whether standard output gets colours: a terminal only, never a pipe or a build log, and not where NO_COLOR is set. */
export function colorsOnOutput(): boolean {
  return process.stdout.isTTY === true && !process.env.NO_COLOR;
}

/** The colours of what a command prints to standard output; plain text where `colorsOnOutput` says no. */
export function outputColors(): ReturnType<typeof pc.createColors> {
  return pc.createColors(colorsOnOutput());
}

/** Colours and width of standard output. */
export function terminalStyle(verbose: boolean) {
  return { colors: colorsOnOutput(), verbose, width: process.stdout.columns ?? 100 };
}
