import { visible } from "./visible-text.js";

/** Data as a code span: there is no HTML, no link and no mention in one. */
export function codeSpan(text: string): string {
  const shown = visible(text);
  const longest = Math.max(0, ...(shown.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  const pad = /^`|`$|^\s|\s$|^$/.test(shown) ? " " : "";
  return `${fence}${pad}${shown}${pad}${fence}`;
}

/** Words that no renderer takes for anything but words. */
const plain = /^[\p{L}\p{N}.,;:()%=×·…—–²³√≥≤±'"?/+-]+$/u;
/** What GitHub makes links, mentions and pictures of without any brackets, and names, which read better as code. */
const special = /:\/\/|^\W*www\.|^\W*(?=\d*[a-f])[0-9a-f]{7,64}\W*$|^\W*gh-\d|:[\w+-]+:|[a-z_]\w*\.\w+\.\w/i;
/** What begins a list, or makes a heading of the line before, where it begins a line. */
const opening = /^([-+]|=+|-+|\d+[.)])$/;

/** A sentence with data in it: words that are not plainly words stand in code spans. */
export function sentence(text: string): string {
  // Backticks in pairs are our own marks around formulas.
  return visible(text)
    .split(/(?<!`)(`[^`]+`)(?!`)/)
    .map((part, i) =>
      i % 2 === 1
        ? codeSpan(part.slice(1, -1))
        : part
            .split(" ")
            .map((text, j) => word(text, i + j === 0))
            .join(" "),
    )
    .join("");
}

function word(text: string, isFirst: boolean): string {
  if (text === "" || (plain.test(text) && !special.test(text) && !(isFirst && opening.test(text)))) return text;
  const [, before = "", inside = text, after = ""] = /^([("]*)(.*?)([),.;:"]*)$/.exec(text) ?? [];
  return inside === "" ? text : `${before}${codeSpan(inside)}${after}`;
}

/** A row of a table; cells are Markdown already. */
export function tableRow(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

/** Lines that are shown as they are. */
export function codeBlock(lines: readonly string[], language = ""): string {
  const text = lines.map(visible).join("\n");
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}
