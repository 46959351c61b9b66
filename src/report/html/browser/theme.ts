import { element } from "./element.js";

const themes = ["auto", "light", "dark"] as const;
const listeners: (() => void)[] = [];

/** Called whenever colours change: canvases have to be painted again. */
export function onColours(listener: () => void): void {
  listeners.push(listener);
}

/** A button that goes from what the system prefers to light and to dark. */
export function themeButton(): HTMLButtonElement {
  let at = 0;
  const button = element("button", { type: "button", class: "quiet", id: "theme" });
  const show = () => {
    const theme = themes[at]!;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
    button.setAttribute("aria-label", `Colours: ${theme}`);
    for (const listener of listeners) listener();
  };
  button.addEventListener("click", () => {
    at = (at + 1) % themes.length;
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
  return button;
}
