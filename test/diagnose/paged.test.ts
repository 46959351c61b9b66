import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Verdict } from "../../src/diagnose/tell/verdict.js";
import { briefVerdict } from "./brief-verdict.js";

const golden = "test/golden/paged_bf16";
const folder = mkdtempSync(join(tmpdir(), "faultline-paged-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// biome-ignore lint/suspicious/noExplicitAny: events are edited as a user's buggy recorder would write them
type Event = any;

/** The golden recording's first steps with its events changed: what the runtime would have recorded had it done that. */
function changed(name: string, steps: number, change: (event: Event) => void) {
  const directory = join(folder, name);
  mkdirSync(directory);
  for (const file of readdirSync(golden))
    if (file !== "events.jsonl") copyFileSync(join(golden, file), join(directory, file));
  const events = readFileSync(join(golden, "events.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Event);
  // Layer 0 is enough here: what lies over the unrecorded layers is left out.
  const kept = events.filter(
    ({ event, step, name: value }) => step < steps && (event !== "value" || /layers\.0\.|embed/.test(value)),
  );
  for (const event of kept) change(event);
  writeFileSync(join(directory, "events.jsonl"), `${kept.map((event) => JSON.stringify(event)).join("\n")}\n`);
  return briefVerdict(directory, "models/ishmael-7m");
}

function shift(event: Event, field: string) {
  if (event[field]) event[field] = event[field].map((n: number) => n + 1);
}

function extraPage(event: Event) {
  if (event.event !== "step") return;
  event.kv_indptr = event.kv_indptr.map((n: number, i: number) => (i > 0 ? n + 1 : n));
  event.kv_indices.splice(event.kv_indptr[1] - 1, 0, 60);
}

function shortLastPage(event: Event) {
  if (event.kv_last_page_len) event.kv_last_page_len[0] -= 1;
}

function sharedPage(event: Event) {
  if (event.kv_indices) event.kv_indices[3] = event.kv_indices[0];
}

const attention = "model.layers.0.self_attn.o_proj.input";

/** Attention has read the right keys, whatever the record says of how: no search for what it may have computed. */
function expectAccountedFor({ causes, findings }: Verdict, cause: string) {
  expect(causes[findings.find(({ unit }) => unit === attention)!.cause!]!.cause).toBe(cause);
  expect(causes.find((one) => one.cause === cause)!.statement).toContain(`${attention} came of what was produced`);
  expect(findings.every((finding) => finding.cause !== null)).toBe(true);
}

describe("seams and metadata of a paged run", () => {
  test("unchanged, it is clean", async () => {
    expect((await changed("unchanged", 3, () => {})).verdict).toBe("clean");
  });

  test("pages written NHD and read HND are a wrong seam, and no kernel is accused of it", async () => {
    const verdict = await changed("layout", 1, ({ event, role, view }) => {
      if (event !== "value" || role !== "input" || !view.pages) return;
      view.layout = "HND";
      view.strides = [2048, 64, 1024, 1];
    });
    const cause = verdict.causes.find((c) => c.cause === "layout-mismatch")!;
    expect(cause).toMatchObject({ kind: "seam", transform: "T1", parameters: { written: "NHD", read: "HND" } });
    expect(verdict.audits.cache.pass).toBe(false);
    expect(verdict.causes[0]!.cause).toBe("layout-mismatch");
    expectAccountedFor(verdict, "layout-mismatch");
  });

  test("bytes of one type read as another", async () => {
    const verdict = await changed("bits", 1, ({ event, role, view }) => {
      if (event === "value" && role === "input" && view.pages) view.dtype = "float16";
    });
    expect(verdict.causes[0]).toMatchObject({
      cause: "dtype-bits",
      kind: "seam",
      parameters: { written: "bfloat16", read: "float16" },
    });
    expectAccountedFor(verdict, "dtype-bits");
  });

  test.each([
    ["positions one too far", "position-offset", (event: Event) => shift(event, "positions")],
    ["an eager extra page", "page-count", extraPage],
    ["a last page that claims one token less", "last-page-length", shortLastPage],
    ["slots one further on", "slot-mapping", (event: Event) => shift(event, "slot_mapping")],
    ["a page in two tables", "page-table-wrong", sharedPage],
  ])("%s: %s", async (title, id, change) => {
    const verdict = await changed(title.replaceAll(" ", "-"), 1, change);
    expect(verdict.verdict).toBe("fault");
    const cause = verdict.causes.find((c) => c.cause === id);
    expect(cause, verdict.causes.map((c) => c.cause).join()).toBeDefined();
    expect(cause!.kind).toBe("metadata");
  });

  test("two entries of a page table exchanged: the right keys lie in other pages", async () => {
    const verdict = await changed("exchanged", 1, (event) => {
      if (event.event === "step")
        [event.kv_indices[0], event.kv_indices[1]] = [event.kv_indices[1], event.kv_indices[0]];
    });
    expect(verdict.causes.map((c) => c.cause)).toContain("page-table-wrong");
    expect(verdict.audits.cache.pass && verdict.audits.batch.pass).toBe(false);
    expectAccountedFor(verdict, "page-table-wrong");
  });
});
