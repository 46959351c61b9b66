import { vi } from "vitest";

/** What `work` writes to stdout. */
export async function printedBy(work: () => Promise<unknown>): Promise<string> {
  let printed = "";
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += text;
    return true;
  });
  try {
    await work();
  } finally {
    write.mockRestore();
  }
  return printed;
}
