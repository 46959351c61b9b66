const maxMessageLength = 1000;

/**
 * The input cannot be read: one sentence naming the file, the field and what was expected. Commands exit with 2.
 * Names in it come from untrusted files: control characters are escaped, so that it stays one line on any terminal.
 */
export class InputError extends Error {
  override name = "InputError";

  constructor(message: string) {
    super(printable(message));
  }
}

function printable(text: string): string {
  const cut = text.length > maxMessageLength ? `${text.slice(0, maxMessageLength)}…` : text;
  return cut.replace(/\p{Cc}|\p{Zl}|\p{Zp}/gu, (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, "0")}`);
}
