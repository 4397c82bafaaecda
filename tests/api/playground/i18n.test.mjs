import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";

import { MODULES } from "./modules.mjs";

const { en } = await import(new URL("lib/en.js", MODULES));
const { zh } = await import(new URL("lib/zh.js", MODULES));

/** Every module and page but the texts themselves. */
const SOURCES = ["", "lib/", "chat/", "text/", "status/"]
  .flatMap((folder) => readdirSync(new URL(folder, MODULES)).map((name) => folder + name))
  .filter((name) => name.endsWith(".js") && !["lib/en.js", "lib/zh.js"].includes(name))
  .map((name) => readFileSync(new URL(name, MODULES), "utf8"))
  .concat(
    ["index.html", "status.html"].map((name) =>
      readFileSync(new URL(`../${name}`, MODULES), "utf8"),
    ),
  )
  .join("\n");

const names = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

test("every language has the same texts, with the same values in them", () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  for (const key of Object.keys(en)) assert.deepEqual(names(zh[key]), names(en[key]), key);
});

test("the texts are sorted, so that one is found", () => {
  for (const texts of [en, zh]) assert.deepEqual(Object.keys(texts), Object.keys(texts).sort());
});

test("each text is used", () => {
  for (const key of Object.keys(en)) {
    // Those of a family are put together from its name and a value: `problem.${reason}`.
    const family = key.slice(0, key.indexOf(".") + 1);
    const isUsed = SOURCES.includes(`"${key}"`) || (family && SOURCES.includes(`\`${family}\${`));
    assert.ok(
      isUsed ||
        /^(?:transport|format|tool_choice|reasoning_effort|option|example|model|worker)\./.test(
          key,
        ),
      key,
    );
  }
});
