import { InputError } from "./errors.js";

/** Deepest nesting any of our files needs, with room: a manifest holds a whole config.json. */
const maxDepth = 32;

/**
 * Parses JSON from an untrusted file.
 * @throws InputError `${where}: ${expected}` when it is no JSON, or nested so deeply that parsing it would exhaust memory.
 */
export function parseJson(text: string, where: string, expected = "expected JSON"): unknown {
  if (depth(text) > maxDepth) throw new InputError(`${where}: expected JSON nested at most ${maxDepth} deep`);
  try {
    return JSON.parse(text);
  } catch {
    throw new InputError(`${where}: ${expected}`);
  }
}

/** Deepest nesting of brackets outside strings. */
function depth(text: string): number {
  let open = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 0x5c) i++;
      else if (c === 0x22) inString = false;
    } else if (c === 0x22) inString = true;
    else if (c === 0x5b || c === 0x7b) {
      if (++open > deepest) deepest = open;
    } else if (c === 0x5d || c === 0x7d) open--;
  }
  return deepest;
}
