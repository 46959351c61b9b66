import { request } from "node:http";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { JudgedView } from "../../src/report/view/judged-view.js";
import { serveView, type Viewed, type ViewServer } from "../../src/report/view/view-server.js";
import { openBrowser, watchedPage } from "./browser.js";

const model = "test/golden/families/qwen3";
const target = `${model}/decode_bf16_sdpa`;
let judged: JudgedView | undefined;
let server: ViewServer;
let browser: Browser;
let end: () => void;
let done: Promise<unknown>;
let judging: () => void;
const viewed: Viewed = {
  progress: () => ({ stage: "checking units", done: 0.4 }),
  page: () => judged?.page,
  elements: (unit, step) => judged!.elements(unit, step),
};

beforeAll(async () => {
  [server, browser] = await Promise.all([serveView(viewed), openBrowser()]);
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  judging = () => {
    done = diagnose({
      target,
      reference: target,
      model,
      quick: true,
      whileOpen: async (open) => {
        judged = new JudgedView(open, { run: { target, model }, command: ["faultline"], version: "1.2.3" }, null);
        await ended;
      },
    });
  };
});
afterAll(async () => {
  end();
  await done;
  await Promise.all([server?.close(), browser?.close()]);
});

interface Asked {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

/** Status, headers and text of a request to the server, by default for its page. */
function ask({ path, method = "GET", headers = {} }: Asked): Promise<{ status: number; cors: unknown; body: string }> {
  const { hostname, port, pathname } = new URL(server.address);
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, path: path ?? pathname, method, headers }, (response) => {
      let body = "";
      response.on("data", (piece) => {
        body += piece;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode!, cors: response.headers["access-control-allow-origin"], body }),
      );
    });
    sent.on("error", reject);
    sent.end();
  });
}

describe("the server", () => {
  it("is on the loopback interface, and its address holds a secret", () => {
    expect(server.address).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/$/);
  });

  it.each<[string, Asked, number]>([
    ["the page", {}, 200],
    ["no token", { path: "/" }, 404],
    ["another token", { path: `/${"x".repeat(32)}/report` }, 404],
    ["another host, as a rebound name has it", { headers: { host: "evil.example" } }, 403],
    ["localhost under another port", { headers: { host: "127.0.0.1:1" } }, 403],
    ["another site's page", { headers: { "sec-fetch-site": "cross-site" } }, 403],
    ["a post", { method: "POST" }, 405],
  ])("%s: %o", async (_, asked, status) => {
    const answer = await ask(asked);
    expect(answer.status).toBe(status);
    expect(answer.cors).toBeUndefined();
    if (status !== 200) expect(answer.body.length).toBeLessThan(20);
  });

  it("has nothing to give before the run is judged", async () => {
    const { pathname } = new URL(server.address);
    expect((await ask({ path: `${pathname}report` })).status).toBe(404);
    expect((await ask({ path: `${pathname}unit?unit=lm_head` })).status).toBe(404);
  });

  it("refuses a port that is taken", async () => {
    const { port } = new URL(server.address);
    await expect(serveView(viewed, Number(port))).rejects.toThrow(/--port: \d+: expected a free port/);
  });
});

describe("its page", () => {
  it("shows what is being done, then any unit of any step beside the reference run", async () => {
    const { page, said } = await watchedPage(browser);
    await page.goto(server.address);
    await page.waitForSelector("progress");
    await page.waitForFunction(() => document.querySelector("[role=status]")?.textContent === "checking units 40%");
    judging();
    await page.waitForSelector("body[data-state=shown]", { timeout: 100_000 });
    expect(await page.textContent("#reference")).toContain("Beside the reference");

    const held = new Set(judged!.page.run.elements.map(({ unit }) => unit));
    const other = judged!.page.run.values.find(({ name, steps }) => !held.has(name) && steps.length > 2)!;
    await page.click(`.strip button[aria-label^="${other.name}:"]`);
    await page.waitForSelector("#map-reference");
    expect(await page.locator("#unit-choice option:checked").textContent()).toBe(other.name);
    const height = () => page.$eval("#map-observed", (canvas) => (canvas as HTMLCanvasElement).height);
    const all = await height();
    expect(all).toBe(judged!.page.run.steps.reduce((sum, { rows }) => sum + rows, 0));

    await page.fill("#step", "2");
    // While it is drawn anew there is none.
    await page.waitForFunction(
      (rows) => (document.querySelector<HTMLCanvasElement>("#map-observed")?.height ?? rows) !== rows,
      all,
    );
    expect(await height()).toBe(judged!.page.run.steps[2]!.rows);
    expect(await page.textContent(".scrubber output")).toContain("step 2");
    expect(said).toEqual([]);
  });

  it("is told in a sentence what there is not", () => {
    expect(judged!.elements("no such value")).toBe("No such value was recorded.");
    expect(judged!.elements("lm_head", 99)).toBe("No such step was recorded.");
  });
});
