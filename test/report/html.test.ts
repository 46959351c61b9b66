import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { pageDocument } from "../../src/report/html/document.js";
import type { PageData } from "../../src/report/html/page-data.js";
import { pageData } from "../../src/report/html/page-words.js";
import { runView } from "../../src/report/html/run-view.js";
import { visible } from "../../src/report/visible-text.js";
import { openBrowser, type Watched, watchedPage } from "./browser.js";
import { hostileStrings } from "./hostile-strings.js";
import { writePagedFault } from "./paged-fault.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-html-"));
let browser: Browser;
let watched: Watched;
beforeAll(async () => {
  browser = await openBrowser();
  watched = await watchedPage(browser);
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

/** What the page of a recording shows. */
async function dataOf(target: string, model: string): Promise<PageData> {
  let data: PageData | undefined;
  await diagnose({
    target,
    model,
    quick: true,
    whileOpen({ diagnosis, run }) {
      const context = { run: { target, model }, command: ["faultline", "diagnose", target], version: "1.2.3" };
      data = pageData(
        diagnosis,
        context,
        runView(run, (tokens) => `token ${tokens}`),
      );
    },
  });
  return data!;
}

/** Opens a page from a file, as a colleague would; returns it when all is drawn. */
async function opened(data: PageData, name = "report.html"): Promise<Page> {
  const path = join(folder, name);
  writeFileSync(path, pageDocument(data));
  const { page, said, asked } = watched;
  said.length = 0;
  asked.length = 0;
  await page.goto(`file://${path}`);
  await page.waitForSelector("body[data-state=shown]");
  return page;
}

/** No error, no warning, and nothing asked for but the file itself. */
function expectQuiet(): void {
  expect(watched.said).toEqual([]);
  expect(watched.asked.map((url) => url.slice(0, 5))).toEqual(["file:"]);
}

/** The unit whose elements are shown. */
function chosen(page: Page) {
  return page.$eval("#unit-choice", (select) => (select as HTMLSelectElement).selectedOptions[0]!.textContent);
}

/** Size of a map, and how many of its pixels have another colour than the first. */
function mapOf(page: Page, id: string) {
  return page.$eval(`#${id}`, (found) => {
    const canvas = found as HTMLCanvasElement;
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
    let others = 0;
    for (let i = 0; i < data.length; i += 4)
      if (data[i] !== data[0] || data[i + 1] !== data[1] || data[i + 2] !== data[2]) others++;
    return { width: canvas.width, height: canvas.height, others };
  });
}

describe("the report of the exclamation mark", () => {
  let data: PageData;
  let page: Page;
  beforeAll(async () => {
    data = await dataOf("cases/exclamation-mark/capture.safetensors", "models/ishmael-7m");
    page = await opened(data);
  });

  it("names the three causes with their evidence, and asks for nothing", async () => {
    const causes = await page.$$eval(".cause header h3", (titles) => titles.map((title) => title.textContent));
    expect(causes).toEqual(["embedding-scaled", "residual-dropped", "additive-constant"]);
    expect(await page.textContent("#causes")).toContain("2,304 of 2,304");
    expect(await page.textContent("h1")).toContain("3 causes");
    expectQuiet();
    expect(statSync(join(folder, "report.html")).size).toBeLessThan(5e6);
  });

  it("shows every recorded value in the strip, with the first and the worst", async () => {
    expect(await page.locator(".strip button.cell").count()).toBe(479);
    expect(await page.locator(".strip .cell.wrong").count()).toBe(7);
    expect(await page.getAttribute(".strip .first", "aria-label")).toMatch(/^model\.embed_tokens: wrong/);
    expect(await page.getAttribute(".strip .worst", "aria-label")).toMatch(/^model\.layers\.1\.self_attn\.\w_proj/);
    expect(await page.locator(".strip .cell.unchecked").count()).toBe(4);
  });

  it("draws a cell for each element of the first wrong unit, and nothing is left with the causes in the spec", async () => {
    for (const id of ["map-expected", "map-observed", "map-difference"])
      expect(await mapOf(page, id)).toMatchObject({ width: 128, height: 18 });
    expect((await mapOf(page, "map-difference")).others).toBeGreaterThan(1000);
    expect((await mapOf(page, "map-left")).others).toBe(0);
    expect(await page.textContent("#readout")).toMatch(/off by −?[\d.e]+ ulps/);
  });

  it("goes from unit to unit by keys, and marks the columns that are wrong", async () => {
    await page.focus(".strip button[tabindex='0']");
    await page.keyboard.press("ArrowDown");
    expect(await chosen(page)).toBe("model.layers.0.input_layernorm");
    for (const key of ["ArrowDown", "ArrowRight"]) await page.keyboard.press(key);
    expect(await chosen(page)).toBe("model.layers.1.self_attn.q_proj");
    expect(await page.locator("#map-difference + svg .extent").count()).toBeGreaterThan(0);
    const before = await page.textContent("#readout");
    await page.focus("#map-observed");
    await page.keyboard.press("ArrowRight");
    expect(await page.textContent("#readout")).not.toBe(before);
    expect(await page.locator("#map-difference + svg .head").count()).toBe(3);
  });

  it("tells the chain, the audits, what was not covered and what to type", async () => {
    expect(await page.locator("#chain li").first().textContent()).toContain("beyond float32");
    expect(await page.locator("#chain circle.stream").count()).toBe(28);
    expect(await page.locator("#audits .chip").allTextContents()).toEqual(["pass", "pass", "pass", "pass"]);
    expect(await page.textContent("#coverage")).toContain("Unchecked: 4");
    expect(await page.textContent("#commands")).toContain("faultline repro cases/exclamation-mark");
  });

  it("is dark where it is asked to be, and maps with it", async () => {
    const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await colour();
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await colour();
    expect(dark).not.toBe(light);
    await page.click("#theme");
    expect(await colour()).toBe(light);
    await page.emulateMedia({ colorScheme: "light" });
  });
});

describe("other reports", () => {
  it("a clean run has no causes, and maps without a difference", async () => {
    const page = await opened(
      await dataOf("test/golden/families/qwen3/bf16_eager.safetensors", "test/golden/families/qwen3"),
    );
    expect(await page.textContent("h1")).toMatch(/^clean Rounding, not a bug/);
    expect(await page.locator("#causes").count()).toBe(0);
    expect(await page.locator(".strip .cell.wrong").count()).toBe(0);
    expect(await mapOf(page, "map-difference")).toMatchObject({ others: 0 });
    expectQuiet();
  });

  it("a page table with two pages exchanged shows whose keys are read", async () => {
    const path = writePagedFault(join(folder, "paged"), 0, 1, (value) =>
      /layers\.0\.self_attn\.(k_rope|v_proj|[kv]_cache)$/.test(value),
    );
    const page = await opened(await dataOf(path, "models/ishmael-7m"));
    expect(await page.locator(".cause header h3").allTextContents()).toContain("page-table-wrong");
    expect(await page.locator("#cache-body .slot.wrong").count()).toBe(32);
    expect(await page.getAttribute("#cache-body .page-box >> nth=0", "aria-label")).toContain(
      "16 not what was appended",
    );
    expect(await page.locator("#cache-body .slot.written").count()).toBe(54 - 32);
    expect(await page.textContent("#unit-body")).toContain("what its consumer read");
    expectQuiet();
  });

  it("a mixture of experts with a fault", async () => {
    const folder = "test/golden/moe/glm4_moe";
    const page = await opened(await dataOf(`${folder}/fault-without-shared-expert.safetensors`, folder));
    expect(await page.locator(".cause header h3").allTextContents()).toEqual(["shared-expert-missing"]);
    expect(await chosen(page)).toBe("model.layers.2.mlp");
    expect(await mapOf(page, "map-observed")).toMatchObject({ width: 64, height: 11 });
    expectQuiet();
  });
});

describe("50 hostile strings in names, tokens and text", () => {
  it("change neither the page nor its file", async () => {
    const clean = await dataOf("test/golden/families/llama/faults/gate-up.safetensors", "test/golden/families/llama");
    const tags = async (page: Page) => page.$$eval("#page *", (all) => all.map(({ tagName }) => tagName).join());
    const shape = await tags(await opened(spoilt(clean, ["harmless"])));
    for (let first = 0; first < hostileStrings.length; first += perPage) {
      const group = hostileStrings.slice(first, first + perPage);
      const page = await opened(spoilt(clean, group));
      expect(await tags(page)).toBe(shape);
      // Names, tokens and words alike are there, spelled out: what cannot be seen is in none of them.
      const text = (await page.textContent("#page"))!.replaceAll("\n", "");
      expect(text).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      for (const hostile of group) expect(text).toContain(visible(hostile));
      const attributes = await page.$$eval("#page *", (all) =>
        all.flatMap((one) => [...one.attributes].map(({ value }) => value)),
      );
      expect(attributes.join("")).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      expect(readFileSync(join(folder, "report.html"), "utf8")).not.toMatch(/[^\P{C}\n]/u);
      expectQuiet();
    }
    // A value of such a name can still be chosen.
    const { page } = watched;
    const before = await page.textContent("#readout");
    await page.selectOption("#unit-choice", { index: 0 });
    expect(await page.textContent("#readout")).not.toBe(before);
  });
});

const perPage = 10;

/** The same page with texts, one after the other, before all that a recording may have a say in. */
function spoilt(data: PageData, texts: readonly string[]): PageData {
  const ours = new Set(["state", "holds", "op", "role", "at", "expected", "observed", "ulps", "left", "reference"]);
  const names = new Map<string, string>();
  let next = 0;
  const spoil = (value: unknown, key = ""): unknown => {
    if (typeof value === "string") {
      if (ours.has(key)) return value;
      // What is the same stays the same: units are found by their names.
      if (!names.has(value)) names.set(value, `${texts[next++ % texts.length]} ${value}`);
      return names.get(value);
    }
    if (Array.isArray(value)) return value.map((inner) => spoil(inner, key));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, spoil(inner, name)]));
  };
  return spoil(data) as PageData;
}
