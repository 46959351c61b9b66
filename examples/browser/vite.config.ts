import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: here("."),
  base: "./",
  // The model is served beside the page: ./ishmael-7m/config.json, …
  publicDir: here("../../models"),
  resolve: { alias: [{ find: /^(.*\/node-gpu\.js|node:fs\/promises)$/, replacement: here("./no-node.ts") }] },
  server: { fs: { allow: [here("../..")] } },
  build: { outDir: here("./dist"), emptyOutDir: true, target: "es2023" },
});
