/** Characters that a terminal obeys, that reorder what is read, that nobody sees, and halves of characters. */
const unseen = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
/** More marks on one character than any script sets: they would run over the lines around. */
const pile = /(?<=\p{M}{4})\p{M}+/gu;
/** A name of a recording may be as long as its file; nothing true is. */
const longest = 2000;

const named: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Text of a recording as one line that can be shown anywhere: what would not be seen is spelled out, as \u001b. */
export function visible(text: string): string {
  const cut = text.length > longest ? `${text.slice(0, longest)}… (${text.length - longest} more characters)` : text;
  return cut.replace(pile, (marks) => `… (${[...marks].length} more marks)`).replace(unseen, spelled);
}

function spelled(character: string): string {
  const code = character.codePointAt(0)!;
  return named[character] ?? (code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`);
}

/** The same value with all its strings visible, keys included. */
export function allVisible<T>(value: T): T {
  return visibleIn(value) as T;
}

function visibleIn(value: unknown): unknown {
  if (typeof value === "string") return visible(value);
  if (Array.isArray(value)) return value.map(visibleIn);
  if (value === null || typeof value !== "object" || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [visible(key), visibleIn(inner)]));
}

/** A value as JSON of the same meaning in which nothing acts on a terminal. */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(unseen, (character) =>
    character === "\n" ? "\n" : escaped(character),
  );
}

/** The same on one line, and no markup begins or ends in it either: for a block of data in a page. */
export function inertJson(value: unknown): string {
  return JSON.stringify(value).replace(unseen, escaped).replace(/[<>&]/g, escaped);
}

/** As JSON escapes it. */
function escaped(character: string): string {
  return character
    .split("")
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("");
}

/** Visible text between quotes. */
export function quoted(text: string): string {
  return `"${visible(text).replaceAll('"', '\\"')}"`;
}
