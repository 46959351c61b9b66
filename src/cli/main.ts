#!/usr/bin/env node
import { CommanderError } from "commander";
import { visible } from "../report/visible-text.js";
import { InputError } from "../tensor/errors.js";
import { program } from "./program.js";

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof InputError) {
    process.stderr.write(`faultline: ${visible(error.message)}\n`);
    process.exitCode = 2;
  } else throw error;
}
