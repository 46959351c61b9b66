import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take longest, longest first: one that started last would keep one core waiting for the other. */
const longest = [
  "diagnose/family-faults",
  "diagnose/causes/causes",
  "diagnose/hugging-face-faults",
  "engine/families",
  "lab/catalogue",
  "diagnose/causes/catalogue",
  "diagnose/paged",
  "diagnose/golden",
  "diagnose/experts",
].map((name) => `/test/${name}.test.ts`);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const others = longest.length;
    const place = ({ moduleId }: TestSpecification) => {
      const i = longest.findIndex((name) => moduleId.endsWith(name));
      return i < 0 ? others : i;
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Whole recordings are evaluated in float64, on machines of two cores.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    // One per core, of which such a machine has two; the default leaves one idle.
    maxWorkers: "100%",
    sequence: { sequencer: LongestFirst },
  },
});
