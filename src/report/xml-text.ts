import { visible } from "./visible-text.js";

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text as XML 1.0 may hold it, between tags and in attributes: what it has no characters for is spelled out. */
function xmlText(text: string): string {
  return visible(text).replace(/[&<>"']/g, (character) => entities[character]!);
}

/** An element; its content is XML already. */
export function xmlElement(
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  content: readonly string[] = [],
): string {
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${xmlText(String(value))}"`);
  const open = `<${name}${written.join("")}`;
  return content.length === 0 ? `${open}/>` : `${open}>\n${content.join("\n")}\n</${name}>`;
}

/** Lines of text as the content of an element. */
export function xmlLines(lines: readonly string[]): string[] {
  return lines.map(xmlText);
}
