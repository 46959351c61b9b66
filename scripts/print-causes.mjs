import { writeFileSync } from "node:fs";
import { causesPage } from "../dist/report/causes-page.js";

writeFileSync(new URL("../docs/causes.md", import.meta.url), causesPage());
