import { type Browser, chromium, type Page } from "playwright-core";

// With this set, the npm package's browser brings the shared libraries that a bare machine lacks.
process.env.AWS_LAMBDA_JS_RUNTIME ??= "nodejs22.x";
const { default: headless } = await import("@sparticuz/chromium");

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: await headless.executablePath(), args: ["--no-sandbox"] });
}

/** A page, and what it said or asked for that a report must not. */
export interface Watched {
  readonly page: Page;
  readonly said: string[];
  readonly asked: string[];
}

/** A page whose console, dialogs and requests are written down. */
export async function watchedPage(browser: Browser): Promise<Watched> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const said: string[] = [];
  const asked: string[] = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", ({ message }) => said.push(message));
  page.on("dialog", (dialog) => {
    said.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => asked.push(request.url()));
  return { page, said, asked };
}
