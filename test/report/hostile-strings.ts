/** Written with escapes alone, so that this file is itself harmless to look at. */

/** What takes over a terminal, or makes its text say something else. */
const terminal = [
  "\u001b[31mred\u001b[0m",
  "\u001b[2J\u001b[H",
  "\u001b]0;title\u0007",
  "\u001b]8;;https://evil.example\u001b\\click\u001b]8;;\u001b\\",
  "\u001b]52;c;cm0gLXJmIC8=\u0007",
  "\u001bP1;1|17/hex\u001b\\",
  "\u001bc",
  "\u009b31mC1 colour",
  "\u009d0;C1 title\u009c",
  "\u0090q sixel\u009c",
  "over\rwritten",
  "back\b\b\b\bspaced",
  "bell\u0007",
  "line\nCLEAN  Rounding, not a bug",
  "line\r\nFAULT  0 causes",
  "tab\tand\vvertical\fform",
  "nul\u0000inside",
  "delete\u007f\u007f",
  "next\u0085line",
];

/** Bidirectional controls, invisible characters, broken and oversized ones. */
const unicode = [
  "\u202egnp.exe",
  "\u202dleft\u202c",
  "\u2066isolated\u2069",
  "\u2067right\u2069",
  "\u061carabic mark",
  "\u200fright\u200eleft",
  "zero\u200bwidth\u200dwidth\u2060",
  "\ufeffbyte order mark",
  "line\u2028separator\u2029paragraph",
  "tags\u{e0041}\u{e0042}",
  "lone\ud800surrogate",
  "\udc00low first",
  "not a character \uffff\ufffe",
  `zalgo${"\u0301".repeat(200)}`,
  "long".repeat(500),
];

/** What a page, a Markdown renderer, an XML reader or a shell might take for its own. */
const markup = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "</script><script>alert(1)</script>",
  "<!--",
  "-->",
  "]]>",
  "<![CDATA[x]]>",
  '"><svg onload=alert(1)>',
  "' onmouseover='alert(1)",
  "&lt;b&gt;&amp;&#x1b;",
  "[click](javascript:alert(1))",
  "![beacon](https://evil.example/x.png)",
  "@everyone fixes #1 and https://evil.example",
  "``` `code` ```",
  "| a | b |\n|---|---|",
  "$(touch pwned); `touch pwned` 'x' \\",
];

/** 50 strings that a recording may hold as names, tokens or text, and that no output may interpret. */
export const hostileStrings: readonly string[] = [...terminal, ...unicode, ...markup];
