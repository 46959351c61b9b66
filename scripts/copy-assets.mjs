// Makes what the compiler leaves behind: WGSL kernels, PTX and the program that builds FlashInfer's modules are copied from src/ to dist/, the report's
// style and script become one file each, and the program is marked executable.
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "vite";

for (const assets of ["webgpu/kernels", "cuda/ptx", "flashinfer/build-modules.py"]) {
  if (existsSync(`src/engine/${assets}`)) cpSync(`src/engine/${assets}`, `dist/engine/${assets}`, { recursive: true });
}
// In the order in which later rules win.
const styles = ["page", "top", "causes", "strip", "unit", "lists", "media"];
const read = (name) => readFileSync(`src/report/html/style/${name}.css`, "utf8");
const dark = read("dark");
const colours = [
  read("colours"),
  dark.replace(":root", ':root[data-theme="dark"]'),
  `@media (prefers-color-scheme: dark) {\n${dark.replace(":root", ":root:not([data-theme])")}}\n`,
];
const style = [...colours, ...styles.map(read)].join("\n");
mkdirSync("dist/report/html", { recursive: true });
writeFileSync("dist/report/html/page.css", style);
// Readable: whoever opens a report can see what it does.
await build({
  configFile: false,
  logLevel: "error",
  build: {
    outDir: "dist/report/html",
    emptyOutDir: false,
    copyPublicDir: false,
    minify: false,
    lib: { entry: "src/report/html/browser/main.ts", formats: ["iife"], name: "faultline", fileName: () => "page.js" },
  },
});
const script = readFileSync("dist/report/html/page.js", "utf8");
// No tab is left: at the start of a line blanks stand for it, in a string its escape.
const indented = script.replace(/^\t+/gm, (tabs) => "  ".repeat(tabs.length)).replaceAll("\t", "\\t");
writeFileSync("dist/report/html/page.js", indented);
chmodSync("dist/cli/main.js", 0o755);
