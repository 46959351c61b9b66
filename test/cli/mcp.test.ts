import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ToolCaller } from "../../dist/cli/mcp/tool-caller.js";
import { bounded } from "../../src/cli/mcp/bounded.js";
import { expectPublished } from "../published.js";

const at = (path: string) => new URL(`../../${path}`, import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "faultline-mcp-"));
const model = at("test/golden/ranks/models/llama");
const fault = [0, 1].map((rank) => at(`test/golden/ranks/faults/rank-missing/rank${rank}`));
const clean = at("test/golden/families/gemma2/bf16_eager.safetensors");
const client = new Client({ name: "test", version: "1" });

beforeAll(async () => {
  const command = { command: process.execPath, args: [at("dist/cli/main.js"), "mcp"], cwd: folder };
  await client.connect(new StdioClientTransport(command));
  // The client checks every answer against the schema that the server gives of it.
  await client.listTools();
});
afterAll(async () => {
  await client.close();
  rmSync(folder, { recursive: true });
});

type Progress = (progress: { progress: number; message?: string }) => void;

async function call(name: string, words: Record<string, unknown>, { onprogress }: { onprogress?: Progress } = {}) {
  // A busy machine may take longer than the minute that a client waits.
  const options = { timeout: 110_000, ...(onprogress && { onprogress }) };
  const { content, structuredContent, isError = false } = await client.callTool({ name, arguments: words }, options);
  const [{ text }] = content as [{ text: string }];
  // biome-ignore lint/suspicious/noExplicitAny: expectPublished holds it against its schema
  return { text, isError, answer: structuredContent as any };
}

describe("faultline mcp", () => {
  it("says what it can do, and what each tool takes and gives", async () => {
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(["diagnose", "unit", "compare", "names", "repro", "sweep"]);
    for (const { inputSchema, outputSchema, annotations, name } of tools) {
      expect(inputSchema.properties).toHaveProperty("limit");
      expect(outputSchema!.properties).toHaveProperty("leftOut");
      expect(annotations!.readOnlyHint).toBe(!["names", "repro"].includes(name));
    }
    expect(client.getInstructions()).toContain("notVisible");
  });

  it("diagnoses with progress, looks at the unit that is accused, and writes it as a test", async () => {
    const seen: number[] = [];
    const stages = new Set<string>();
    const onprogress = ({ progress, message }: { progress: number; message?: string }) => {
      seen.push(progress);
      stages.add(message!.replace(/ \d+%$/, ""));
    };
    const { answer, text } = await call("diagnose", { target: fault, model, quick: true }, { onprogress });
    expectPublished("diagnose", answer);
    expect(JSON.parse(text)).toEqual(answer);
    const [cause] = answer.causes;
    expect(cause.cause).toBe("rank-missing");
    expect(stages).toContain("checking units");
    expect(stages).toContain("proving");
    expect(seen).toEqual([...seen].sort((a, b) => a - b));

    const unit = cause.units[0];
    const looked = await call("unit", { target: fault, model, unit, count: 3 });
    expectPublished("unit", looked.answer);
    expect(looked.answer).toMatchObject({ unit, judged: "wrong", causes: [{ cause: "rank-missing" }] });
    expect(looked.answer.elements).toHaveLength(3);
    const [{ row, column, observed, z }] = looked.answer.elements;
    expect(Math.abs(z)).toBeGreaterThan(8);

    // The window holds the same element.
    const window = { rows: [row, row], columns: [column, column + 1] };
    const near = await call("unit", { target: fault, model, unit, ...window });
    expect(near.answer.elements).toHaveLength(2);
    expect(near.answer.elements[0]).toMatchObject({ row, column, observed });

    const out = join(folder, "repro");
    const written = await call("repro", { target: fault, model, out: "repro" });
    expectPublished("repro", written.answer);
    expect(written.answer.files.every((file: string) => existsSync(join(out, file)))).toBe(true);
    expect(readdirSync(folder)).toEqual(["repro"]);
    const again = await call("repro", { target: fault, model, out: "repro" });
    expect(again).toMatchObject({ isError: true, text: "out: repro: expected a folder that does not exist yet" });
  });

  it("compares, and names", async () => {
    const compared = await call("compare", { reference: clean, target: clean, limit: 4000 });
    expectPublished("compare", { ...compared.answer, leftOut: undefined });
    expect(compared.text.length).toBeLessThanOrEqual(4000);
    const [{ field, shown, of }] = compared.answer.leftOut;
    expect([field, shown]).toEqual(["values", compared.answer.values.length]);
    expect(of).toBeGreaterThan(shown);

    const dump = at("test/golden/importers/sglang-passes");
    const words = { dump, model: at("test/golden/importers/model") };
    const named = await call("names", { ...words, out: "names.json" });
    expect(named.answer).toMatchObject({ isSure: true, format: "faultline-names" });
    expectPublished("names", readFileSync(join(folder, "names.json"), "utf8"));
  });

  it("changes the running engine", async () => {
    const words = { model: at("models/ishmael-7m"), path: "reference", prompt: "Call me", maxTokens: 1 };
    const { answer } = await call("sweep", { ...words, set: ["layers.27.k_scale=1,0.5"] });
    expectPublished("sweep", { ...answer, leftOut: undefined });
    const [same, changed] = answer.settings;
    expect(same).toMatchObject({ values: { changed: 0 }, sameText: true });
    expect(changed.first.value).toMatch(/^model\.layers\.27\.self_attn\./);
    const wrong = await call("sweep", { ...words, set: ["layers.99.mlp=off"] });
    expect(wrong.isError).toBe(true);
  });

  it("answers what is wrong with a question in one sentence, as an error of the tool", async () => {
    const missing = await call("diagnose", { target: [join(folder, "none")], model });
    expect(missing).toMatchObject({ isError: true, text: expect.stringMatching(/none: no such file .*expected a/) });
    const unknown = await call("unit", { target: fault, model, unit: "model.layers.99" });
    expect(unknown.isError).toBe(true);
    expect(unknown.text).toMatch(/unit model\.layers\.99: expected a value of the model, such as model\./);
    const empty = await call("unit", { target: fault, model, unit: "model.layers.0", rows: [9999, 9999] });
    expect(empty).toMatchObject({ isError: true, text: expect.stringContaining("rows and columns: expected some") });
    const typo = await call("diagnose", { target: "one", model });
    expect(typo).toMatchObject({ isError: true, text: expect.stringContaining("target") });
  });
});

describe("a call that is cancelled", () => {
  it("ends with its process, and the next one is answered", async () => {
    const caller = new ToolCaller();
    const abort = new AbortController();
    const input = { target: fault, model, quick: true };
    const called = { name: "diagnose", input, limit: 20_000 };
    let pid = 0;
    const told = () => {
      pid = caller.pid!;
      abort.abort(new Error("enough"));
    };
    const [first, waiting] = [caller.call(called, told, abort.signal), caller.call(called, () => {}, abort.signal)];
    await expect(first).rejects.toThrow("enough");
    await expect(waiting).rejects.toThrow("enough");
    const compared = { name: "compare", input: { reference: clean, target: clean }, limit: 2000 };
    const answer = await caller.call(compared, () => {}, new AbortController().signal);
    expect(answer).toMatchObject({ result: "same" });
    expect(pid).toBeGreaterThan(0);
    expect(caller.pid).not.toBe(pid);
    expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
    caller.close();
  });
});

describe("a bounded answer", () => {
  const items = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ name: `value ${i}`, shape: [1, 4, 18, 64] }));

  it("is what it was where there is room", () => {
    const answer = { a: 1, list: items(3), never: Number.POSITIVE_INFINITY };
    expect(bounded(answer, 1000, [])).toEqual({ a: 1, list: items(3), never: null });
  });

  it("loses ends of lists, the less important first, and says so; what is one thing stays whole", () => {
    const made = bounded({ causes: items(20), rest: items(20) }, 1500, ["rest"]);
    expect(JSON.stringify(made).length).toBeLessThanOrEqual(1500);
    expect(made.causes).toEqual(items(20));
    expect(made.rest).toEqual(items(10));
    expect(made.leftOut).toEqual([{ field: "rest", shown: 10, of: 20 }]);
    const less = bounded({ causes: items(20), rest: items(20) }, 600, ["rest"]);
    const shown = (less.causes as unknown[]).length;
    expect(less.causes).toEqual(items(shown));
    expect(less.leftOut).toContainEqual({ field: "causes", shown, of: 20 });
  });

  it("names what it left out inside of a list, as long as that is there", () => {
    const answer = { causes: [{ units: Array.from({ length: 64 }, (_, i) => `unit ${i}`) }, ...items(9)] };
    const { leftOut } = bounded(answer, 400, []);
    expect(leftOut).toContainEqual({ field: "causes[0].units", shown: expect.any(Number), of: 64 });
  });

  it("cuts texts where there are no lists, and refuses what cannot be said so briefly", () => {
    const made = bounded({ text: "x".repeat(5000) }, 1000, []);
    expect(made.leftOut).toEqual([{ field: "text", shown: (made.text as string).length, of: 5000 }]);
    const wide = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`field ${i}`, i]));
    expect(() => bounded(wide, 1000, [])).toThrow(
      /limit: expected at least \d+ characters for this answer, found 1000/,
    );
  });
});
