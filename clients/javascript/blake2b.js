// BLAKE2b (RFC 7693) with a key and a personalization, which node:crypto does not offer.

const hexDigits = (text) => [...text].map((digit) => parseInt(digit, 16));
const IV = [0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n];
const ORDERS = ("0123456789abcdef ea489fd61c02b753 b8c052fdae367194 7931dcbe265a40f8 905724afe1bc683d " +
  "2c6a0b834d75fe19 c51fed4a0763928b db7ec13950f4862a 6fe9b308c2d714a5 a2847615fb9e3cd0").split(" ").map(hexDigits);
const MIXES = ["048c", "159d", "26ae", "37bf", "05af", "16bc", "278d", "349e"].map(hexDigits);

/**
 * Returns the hash of a text or Buffer, as a Buffer of `size` bytes. key: up to 64 bytes. purpose: BLAKE2's
 * personalization, up to 16 bytes.
 */
export function blake2b(text, size, key = "", purpose = "") {
  const parameters = Buffer.alloc(64);
  parameters.set([size, key.length, 1, 1]);
  parameters.write(purpose, 48);
  const state = BigUint64Array.from(IV, (word, i) => word ^ parameters.readBigUInt64LE(8 * i));
  const data = Buffer.concat([Buffer.from(key), Buffer.alloc(key.length && 128 - key.length), Buffer.from(text)]);
  for (let start = 0; start < data.length; start += 128) {
    const block = Buffer.concat([data.subarray(start, start + 128)], 128);
    const words = BigUint64Array.from({ length: 16 }, (_, i) => block.readBigUInt64LE(8 * i));
    const v = BigUint64Array.of(...state, ...IV);
    const isLast = start + 128 >= data.length;
    v[12] ^= BigInt(isLast ? data.length : start + 128);
    if (isLast) v[14] = ~v[14];
    for (let round = 0; round < 12; round++) {
      MIXES.forEach(([a, b, c, d], i) => {
        for (const [offset, right, turn] of [[0, 32n, 24n], [1, 16n, 63n]]) {
          v[a] += v[b] + words[ORDERS[round % 10][2 * i + offset]];
          v[d] ^= v[a];
          v[d] = v[d] >> right | v[d] << 64n - right;
          v[c] += v[d];
          v[b] ^= v[c];
          v[b] = v[b] >> turn | v[b] << 64n - turn;
        }
      });
    }
    state.forEach((_, i) => { state[i] ^= v[i] ^ v[i + 8]; });
  }
  const hash = Buffer.alloc(64);
  state.forEach((word, i) => hash.writeBigUInt64LE(word, 8 * i));
  return hash.subarray(0, size);
}
