import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Whole recordings are evaluated in float64, on machines of two cores.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    // One per core, of which such a machine has two; the default leaves one idle.
    maxWorkers: "100%",
  },
});
