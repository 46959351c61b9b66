import { visible } from "../../visible-text.js";

export type Child = Node | string | number | null | undefined | false;

/** Attributes of an element; a function is a listener, false and undefined are left out. */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined | ((event: never) => void)>>;

/**
 * An element with its children. Strings become text nodes, spelled out where they would act or hide: nothing of a
 * recording is ever markup.
 */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  set(made, attributes);
  fill(made, ...children);
  return made;
}

/** The same for drawings. */
export function drawing<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(made, attributes);
  fill(made, ...children);
  return made;
}

/** Puts children in place of those that an element has. */
export function fill(parent: Element, ...children: Child[]): void {
  const nodes = children.flatMap((child) => {
    if (child === null || child === undefined || child === false) return [];
    return child instanceof Node ? child : document.createTextNode(visible(String(child)));
  });
  parent.replaceChildren(...nodes);
}

/** Sets attributes of an element that is there already, spelled out as those of a new one are. */
export function set(made: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value as (event: Event) => void);
    else made.setAttribute(name, value === true ? "" : visible(String(value)));
  }
}

/** A part of the page under a heading that can be linked to. */
export function section(id: string, title: string, ...children: Child[]): HTMLElement {
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title),
    ...children,
  );
}
