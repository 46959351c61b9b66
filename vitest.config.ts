import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { compiledSource } from "./test/compiled-source.js";
import { sharingFiles } from "./test/shared-worker.js";

/** The files that take longest, longest first: one that started last would keep one core waiting for the other. */
const longest = [
  "diagnose/causes/catalogue",
  "lab/catalogue",
  "diagnose/hugging-face-faults",
  "lab/legal",
  "diagnose/golden",
  "diagnose/reference/reference-runs",
  "diagnose/experts",
  "diagnose/flashinfer",
  "diagnose/coverage",
  "diagnose/causes/causes",
  "diagnose/family-faults",
  "lab/weight-formats",
  "engine/paths-golden",
  "python",
  "engine/families",
  "cli/demo-flashinfer",
  "fuzz",
  "browser/page",
  "engine/recording-gpu",
  "repro/repro",
  "package",
].map((name) => `/test/${name}.test.ts`);

/** Those that share a worker first, since one goes on only while the next file is theirs; of each kind the longest first. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const others = longest.length;
    const place = ({ moduleId, project }: TestSpecification) => {
      const i = longest.findIndex((name) => moduleId.endsWith(name));
      return (project.config.isolate ? others + 1 : 0) + (i < 0 ? others : i);
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}

const sharing = sharingFiles(import.meta.dirname);

const common = {
  // Whole recordings are evaluated in float64, on machines of two cores.
  testTimeout: 120_000,
  hookTimeout: 120_000,
  pool: "forks",
  // What compiled-source leads to is for Node to load.
  server: { deps: { external: [/\/dist\/.*\.js$/] } },
} satisfies TestProjectInlineConfiguration["test"];
const plugins = [compiledSource(import.meta.dirname)];

export default defineConfig({
  test: {
    // One per core, of which such a machine has two; the default leaves one idle.
    maxWorkers: "100%",
    sequence: { sequencer: LongestFirst },
    projects: [
      // Loading what they import takes many of these files longer than their tests: a worker loads it once.
      { plugins, test: { ...common, name: "sharing", include: sharing, isolate: false } },
      {
        plugins,
        test: {
          ...common,
          name: "alone",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...sharing],
        },
      },
    ],
  },
});
