// What npm runs after `npm ci` in a clone: the build, where there is a compiler. Without one (`npm ci --omit=dev`) there is
// nothing to build with, and an install must not fail for it.
import { execSync } from "node:child_process";
import { existsSync } from "node:fs";

if (existsSync(new URL("../node_modules/typescript", import.meta.url))) execSync("npm run build", { stdio: "inherit" });
else console.error("faultline: TypeScript is not installed, so nothing was built; npm ci without --omit=dev builds");
