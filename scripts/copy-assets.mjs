// Copies what the compiler leaves behind (WGSL kernels, JSON is copied by tsc) from src/ to dist/, and marks the program executable.
import { chmodSync, cpSync, existsSync } from "node:fs";

const kernels = "src/engine/webgpu/kernels";
if (existsSync(kernels)) cpSync(kernels, "dist/engine/webgpu/kernels", { recursive: true });
chmodSync("dist/cli/main.js", 0o755);
