import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { build, type PreviewServer, preview } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { goldenGenerations } from "../engine/ishmael.js";

// With this set, the npm package's browser brings the shared libraries that a bare machine lacks.
process.env.AWS_LAMBDA_JS_RUNTIME ??= "nodejs22.x";
const { default: headless } = await import("@sparticuz/chromium");

const configFile = "examples/browser/vite.config.ts";
const outDir = mkdtempSync(join(tmpdir(), "faultline-page-"));
const errors: string[] = [];
let server: PreviewServer;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  await build({ configFile, logLevel: "error", build: { outDir } });
  server = await preview({ configFile, logLevel: "error", build: { outDir }, preview: { port: 0, open: false } });
  browser = await chromium.launch({
    executablePath: await headless.executablePath(),
    args: ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
  });
  page = await browser.newPage();
  page.on("pageerror", ({ message }) => errors.push(message));
  await page.goto(server.resolvedUrls!.local[0]!);
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(outDir, { recursive: true });
});

/** Waits until the page is in one of the states; its status line explains a failure. */
async function expectState(state: string): Promise<void> {
  await page.waitForSelector(`body[data-state=${state}], body[data-state=failed]`, { timeout: 280_000 });
  expect(await page.getAttribute("body", "data-state"), (await page.textContent("#status")) ?? "").toBe(state);
}

describe("the page in a headless browser, on the software GPU", () => {
  it("continues the book on both paths and finds that they agree", async () => {
    const [golden] = goldenGenerations();
    await expectState("ready");
    await page.fill("#tokens", "6");
    await page.click("#generate");
    await expectState("done");
    const standard = await page.textContent("#standard");
    expect(standard).toBe("Call me Ishmael. Some years ago—never");
    expect(golden!.text.startsWith(standard!)).toBe(true);
    expect(await page.textContent("#fused")).toBe(standard);
    expect(await page.textContent("#verdict")).toBe("Both paths gave the same 6 tokens.");
    expect(errors).toEqual([]);
  }, 300_000);

  it("asks for a prompt when there is none", async () => {
    await page.fill("#prompt", "");
    await page.click("#generate");
    await expectState("ready");
    expect(await page.textContent("#status")).toBe("Give it a prompt.");
  });
});
