// Reads the secrets of a pixel-server from the environment.
import { readFileSync } from "node:fs";

/**
 * Returns {signing: [newest, ...], recipient}: the secrets in PIXEL_SECRET and PIXEL_RECIPIENT_SECRET, or in the files
 * that PIXEL_SECRET_FILE and PIXEL_RECIPIENT_SECRET_FILE name. Throws RangeError if a secret is missing or too short.
 */
export function secretsFromEnvironment(environment = process.env) {
  const signing = read(environment, "PIXEL_SECRET").split(/[\s,]+/).filter(Boolean);
  const recipient = read(environment, "PIXEL_RECIPIENT_SECRET");
  checkLength("PIXEL_SECRET", signing);
  checkLength("PIXEL_RECIPIENT_SECRET", [recipient]);
  return { signing, recipient };
}

function read(environment, name) {
  const [value, file] = [name, `${name}_FILE`].map((key) => (environment[key] ?? "").trim());
  if (!value === !file) throw new RangeError(`set ${name} or ${name}_FILE, and not both`);
  return (value || readFileSync(file, "utf8")).trim();
}

function checkLength(name, keys) {
  const areLong = keys.length > 0 && keys.every((key) => [...key].length >= 16);
  if (!areLong) throw new RangeError(`${name} must have 16 characters or more`);
}
