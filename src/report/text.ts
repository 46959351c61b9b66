import type pc from "picocolors";

export type Colors = ReturnType<typeof pc.createColors>;

/** A title over its lines; nothing where there are none. */
export function section(c: Colors, title: string, lines: readonly string[]): string {
  return lines.length === 0 ? "" : `${c.bold(title)}\n${lines.join("\n")}`;
}

export function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** Breaks text at spaces; continuation lines are indented by `hang` more. Colour codes do not count as width. */
export function wrap(text: string, width: number, indent: string, hang = indent.length + 2): string {
  const lines: string[] = [];
  let line = indent;
  let length = indent.length;
  for (const word of text.split(" ")) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape codes begin with one
    const visible = word.replace(/\u001b\[\d+m/g, "").length;
    if (length + visible + 1 > width && length > hang) {
      lines.push(line);
      line = " ".repeat(hang);
      length = hang;
    }
    const gap = line.endsWith(" ") && line.trim() === "" ? "" : " ";
    line += line === indent || gap === "" ? word : ` ${word}`;
    length += visible + 1;
  }
  lines.push(line);
  return lines.join("\n");
}

/** 0.99987 as 99.98%: never rounded up to what it is not. */
export function percent(share: number): string {
  return `${(Math.floor(share * 10_000) / 100).toFixed(share === 1 ? 0 : 2)}%`;
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

/** Columns apart by a blank, no lines: plain when piped, narrow enough for 120 columns. */
export const bareChars = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: " ",
};
