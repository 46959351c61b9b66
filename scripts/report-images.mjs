// Makes docs/images: the reports of four runs in both themes, as headless Chromium shows them. Run after `npm run build`.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { unfilteredPng } from "./unfiltered-png.mjs";

// With this set, the npm package's browser brings the shared libraries that a bare machine lacks.
process.env.AWS_LAMBDA_JS_RUNTIME ??= "nodejs22.x";
const { default: headless } = await import("@sparticuz/chromium");
const { createServer } = await import("vite");

const folder = mkdtempSync(join(tmpdir(), "faultline-images-"));
const images = "docs/images";
const width = 1000;
mkdirSync(images, { recursive: true });

/** The paged recording with two pages exchanged in a page table: made by what its test makes it by. */
async function pagedFault() {
  const vite = await createServer({ configFile: false, logLevel: "error", server: { middlewareMode: true } });
  const { writePagedFault } = await vite.ssrLoadModule("/test/report/paged-fault.ts");
  const path = writePagedFault(join(folder, "paged"), 2, 5, () => true);
  await vite.close();
  return path;
}

const moe = "test/golden/moe/glm4_moe";
/** What is diagnosed, and the part of the page before which the image ends. */
const reports = [
  {
    name: "exclamation-mark",
    target: "cases/exclamation-mark/capture.safetensors",
    model: "models/ishmael-7m",
    until: "audits",
  },
  { name: "clean", target: "test/golden/hf_h200_bf16_sdpa.safetensors", model: "models/ishmael-7m" },
  { name: "paged-cache", target: await pagedFault(), model: "models/ishmael-7m" },
  { name: "experts", target: `${moe}/fault-without-shared-expert.safetensors`, model: moe },
];

const browser = await chromium.launch({ executablePath: await headless.executablePath(), args: ["--no-sandbox"] });
for (const { name, target, model, until = "chain" } of reports) {
  const file = join(folder, `${name}.html`);
  const words = ["dist/cli/main.js", "diagnose", target, "--model", model, "--report", file];
  try {
    execFileSync(process.execPath, words, { stdio: ["ignore", "ignore", "inherit"] });
  } catch (error) {
    // 1: there is a fault, as there should be.
    if (error.status !== 1) throw error;
  }
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    await page.goto(`file://${file}`);
    await page.waitForSelector("body[data-state=shown]");
    await page.evaluate(() => {
      for (const path of document.querySelectorAll(".recording code"))
        path.textContent = path.textContent.split("/").at(-1);
    });
    const height = await page.$eval(`#${until}`, (part) => Math.ceil(part.getBoundingClientRect().top + scrollY - 20));
    const image = await page.screenshot({ fullPage: true, clip: { x: 0, y: 0, width, height } });
    writeFileSync(join(images, `${name}-${colorScheme}.png`), unfilteredPng(image));
    await page.close();
  }
}
await browser.close();
rmSync(folder, { recursive: true });
