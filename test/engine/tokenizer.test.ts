import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ChatTemplate } from "../../src/engine/text/chat.js";
import { readChatTemplate, readTokenizer } from "../../src/engine/text/model-folder.js";
import { TextStream } from "../../src/engine/text/tokenizer.js";
import { InputError } from "../../src/tensor/errors.js";
import { goldenGenerations, modelDirectory } from "./ishmael.js";

const tokenizer = readTokenizer(modelDirectory);

function modelFolder(files: Record<string, unknown>): string {
  const directory = mkdtempSync(join(tmpdir(), "faultline-tokenizer-"));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  return directory;
}

describe("the tokenizer", () => {
  it("gives Hugging Face's ids and text", () => {
    for (const { prompt, prompt_ids, greedy_ids, text } of goldenGenerations()) {
      expect(tokenizer.encode(prompt)).toEqual(prompt_ids);
      expect(tokenizer.decode([...prompt_ids, ...greedy_ids])).toBe(text);
    }
  });

  it("knows special tokens and leaves them out of text", () => {
    const end = tokenizer.idOf("<|endoftext|>")!;
    expect(end).toBe(4093);
    expect(tokenizer.encode("whale<|endoftext|>").at(-1)).toBe(end);
    expect(tokenizer.decode([...tokenizer.encode("whale"), end])).toBe("whale");
  });

  it("says what is wrong with a model folder", () => {
    expect(() => readTokenizer(modelFolder({}))).toThrow(InputError);
    expect(() => readTokenizer(modelFolder({ "tokenizer.json": "{" }))).toThrow(/tokenizer\.json: expected JSON/);
    expect(() => readTokenizer(modelFolder({ "tokenizer.json": [] }))).toThrow(/expected a JSON object/);
    expect(() => readTokenizer(modelFolder({ "tokenizer.json": { model: { type: "none" } } }))).toThrow(InputError);
  });
});

describe("streamed text", () => {
  it("adds up to the whole text, whatever characters are spread over several tokens", () => {
    for (const text of ["Call me Ishmael. Some years ago—never", "🐳 and 鯨, naïve 👩‍👩‍👧", " two  spaces\n\n"]) {
      for (const context of ["", "鯨 before this. "]) {
        const stream = new TextStream(tokenizer, tokenizer.encode(context));
        const pieces = tokenizer.encode(text).map((id) => stream.push(id));
        expect(pieces.join("") + stream.end()).toBe(text);
        for (const piece of pieces) expect(piece).not.toContain("\ufffd");
      }
    }
  });

  it("gives out an unfinished character at the end", () => {
    const [first] = tokenizer.encode("鯨");
    const stream = new TextStream(tokenizer);
    expect(stream.push(first!)).toBe("");
    expect(stream.end()).toBe("\ufffd");
    expect(stream.end()).toBe("");
  });
});

describe("chat templates", () => {
  const chatml =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}\n{% endfor %}" +
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const rendered = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
  const messages = [{ role: "user", content: "hello" }] as const;
  const config = { eos_token: { content: "<|im_end|>" } };

  it("come from tokenizer_config.json, from a named list, or from chat_template.jinja", () => {
    const folders = [
      modelFolder({ "tokenizer_config.json": { ...config, chat_template: chatml } }),
      modelFolder({
        "tokenizer_config.json": {
          ...config,
          chat_template: [
            { name: "tool_use", template: "" },
            { name: "default", template: chatml },
          ],
        },
      }),
      modelFolder({ "tokenizer_config.json": config, "chat_template.jinja": chatml }),
    ];
    for (const folder of folders) expect(readChatTemplate(folder).render(messages)).toBe(rendered);
  });

  it("are refused with a sentence when absent or malformed", () => {
    expect(() => readChatTemplate(modelDirectory)).toThrow(/tokenizer_config\.json: chat_template: expected one/);
    expect(() => new ChatTemplate("{% for %}", {}, "here")).toThrow(/^here: chat_template: /);
    expect(() => new ChatTemplate("{{ raise_exception('no system role') }}", {}, "here").render(messages)).toThrow(
      /no system role/,
    );
  });
});
