// Makes pixel links offline, with the secrets of a pixel-server. docs/token.md specifies each byte.
import { blake2b } from "./blake2b.js";

export { secretsFromEnvironment } from "./secrets.js";

const MODES = ["off", "count", "last", "pseudonymous", "identified"];
const PARTS = ["single", "top", "bottom"];
const BASE_URL = /^https?:\/\/(\[[0-9a-f:.]+\]|[\w.~-]+)(:(?<port>\d{1,5}))?(\/[\w.~!$%&()*+,;=:@[\]/-]*)?$/i;
const STYLE = ("display:block position:absolute float:none width:1px min-width:1px max-width:1px height:1px " +
  "min-height:1px max-height:1px margin:0 margin-top:-1px padding:0 border:0 outline:0 box-shadow:none " +
  "background:none ").replaceAll(" ", "!important;");

function check(isRight, message) {
  if (!isRight) throw new RangeError(message);
}

function choose(choices, name, field) {
  check(choices.includes(name), `${field} must be one of: ${choices.join(", ")}`);
  return choices.indexOf(name);
}

export class Minter {
  #baseUrl; #mode; #signingKey; #recipientKey;

  /** secrets: {signing: [newest, ...], recipient}, as in secrets.json. mode: the campaign's mode. Throws RangeError. */
  constructor(baseUrl, secrets, mode = "pseudonymous") {
    const parts = BASE_URL.exec(baseUrl)?.groups;
    check(parts && baseUrl.length <= 500 && +(parts.port ?? 80) > 0 && +(parts.port ?? 80) < 65536,
      "base URL must be an http or https address without user, query and fragment");
    const texts = [secrets?.signing?.[0], secrets?.recipient];
    check(texts.every((text) => text && typeof text === "string"),
      "secrets must be {signing: [text, ...], recipient: text}");
    choose(MODES, mode, "mode");
    this.#baseUrl = baseUrl.replace(/\/+$/, "");
    this.#mode = mode;
    this.#signingKey = blake2b(texts[0], 32, "", "px-sign");
    this.#recipientKey = blake2b(texts[1], 32, "", "px-recipient");
  }

  /**
   * Returns {url, html, privacyUrl} of one recipient, each null in mode off. Throws RangeError if an argument is
   * wrong. sentAt, now: times in seconds since 1970. part: single, top or bottom. test: whether it is a trial mail.
   */
  link(campaign, recipient, { mode = this.#mode, part = "single", sentAt, test, now = Date.now() / 1000 } = {}) {
    check(typeof campaign === "string" && /^[a-z0-9][a-z0-9-]{0,62}$/.test(campaign),
      "campaign must be a to z, 0 to 9 and hyphens, up to 63 characters, and not begin with a hyphen");
    check(typeof recipient === "string" && /^[^\0-\x1f\x7f-\x9f\ud800-\udfff]{1,256}$/u.test(recipient),
      "recipient must have 1 to 256 characters, and no control characters");
    const flags = choose(MODES, mode, "mode") | choose(PARTS, part, "part") << 3 |
      (sentAt == null ? 0 : 0x20) | (test ? 0x40 : 0);
    if (mode === "off") return { url: null, html: null, privacyUrl: null };
    const seconds = sentAt ?? Math.floor(now);
    check(Number.isInteger(seconds) && seconds >= 0 && seconds < 2 ** 32, "sentAt must be whole seconds since 1970");
    const head = Buffer.from([1, flags, 0, 0, 0, 0]);
    head.writeUInt32BE(mode === "count" ? seconds - seconds % 86400 : seconds, 2);
    const key = mode === "count" ? "" : blake2b(recipient, 8, this.#recipientKey);
    const body = Buffer.concat([head, Buffer.from(key), Buffer.from(campaign)]);
    const token = Buffer.concat([body, blake2b(body, 10, this.#signingKey)]).toString("base64url");
    const url = `${this.#baseUrl}/o/${token}.gif`;
    const html = `<img src="${url.replaceAll("&", "&amp;")}" width="1" height="1" alt="" border="0" style="${STYLE}">`;
    return { url, html, privacyUrl: `${this.#baseUrl}/privacy?t=${token}` };
  }
}
