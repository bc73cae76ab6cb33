import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Minter, secretsFromEnvironment } from "./index.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors.json", import.meta.url)));
const minter = new Minter("https://img.example.org", vectors.secrets);

for (const { what, base_url, campaign, recipient, options, url, html, privacy_url } of vectors.links) {
  test(`link: ${what}`, () => {
    const { sent_at: sentAt, ...others } = options;
    const link = new Minter(base_url, vectors.secrets).link(campaign, recipient, { sentAt, ...others });
    assert.deepEqual(link, { url, html, privacyUrl: privacy_url });
    const { mode, ...rest } = others;
    if (mode) {
      const byMinter = new Minter(base_url, vectors.secrets, mode).link(campaign, recipient, { sentAt, ...rest });
      assert.deepEqual(byMinter, link);
    }
  });
}

test("recipient keys", () => {
  for (const [recipient, key] of Object.entries(vectors.recipient_keys)) {
    const token = minter.link("spring", recipient).url.split("/o/")[1].replace(".gif", "");
    assert.equal(Buffer.from(token, "base64url").subarray(6, 14).toString("hex"), key);
  }
});

for (const { what, base_url = "https://img.example.org", field, ...link } of vectors.refused) {
  test(`refused: ${what}`, () => {
    const { campaign = "spring", recipient = "ada@example.org", options: { sent_at: sentAt, ...others } = {} } = link;
    const mint = () => new Minter(base_url, vectors.secrets).link(campaign, recipient, { sentAt, ...others });
    assert.throws(mint, (error) => error instanceof RangeError && error.message.startsWith(field));
  });
}

test("refused: values that JSON does not have", () => {
  const links = [[undefined, "ada"], ["spring", undefined], ["spring", null], ["spring", 7], ["spring", "\ud800"],
    ["spring", "ada", { sentAt: 1.5 }], ["spring", "ada", { sentAt: "0" }], ["spring", "ada", { now: NaN }],
    ["spring", "ada", { part: "middle" }]];
  for (const link of links) assert.throws(() => minter.link(...link), RangeError);
  for (const secrets of [undefined, {}, { signing: [], recipient: "x" }, { signing: [""], recipient: "x" }]) {
    assert.throws(() => new Minter("https://img.example.org", secrets), RangeError);
  }
});

test("the time without options is now, cut to a second", () => {
  const time = (link) => Buffer.from(link.url.split("/o/")[1], "base64url").readUInt32BE(2);
  assert.equal(time(minter.link("spring", "ada", { now: 1790000000.9 })), 1790000000);
  const before = Math.floor(Date.now() / 1000);
  const minted = time(minter.link("spring", "ada"));
  assert.ok(minted >= before && minted <= Date.now() / 1000);
});

for (const { what, environment, secrets, refused } of vectors.environments) {
  test(`environment: ${what}`, () => {
    if (secrets) assert.deepEqual(secretsFromEnvironment(environment), secrets);
    else assert.throws(() => secretsFromEnvironment(environment), (error) => error.message.includes(refused));
  });
}

test("environment: secrets in files", () => {
  const file = join(mkdtempSync(join(tmpdir(), "pixel-")), "secret");
  writeFileSync(file, "newest-key-of-the-file\nolder-key-of-the-file\n");
  const recipient = "recipient-secret-of";
  const environment = { PIXEL_SECRET_FILE: file, PIXEL_RECIPIENT_SECRET: recipient };
  assert.deepEqual(secretsFromEnvironment(environment),
    { signing: ["newest-key-of-the-file", "older-key-of-the-file"], recipient });
  assert.throws(() => secretsFromEnvironment({ ...environment, PIXEL_SECRET: "key-of-the-environment" }), RangeError);
  assert.throws(() => secretsFromEnvironment({ ...environment, PIXEL_SECRET_FILE: `${file}.gone` }), /ENOENT/);
});
