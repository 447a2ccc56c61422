// Addresses as text, as numbers, and as keys that sort as addresses do: "4" or "6", then hexadecimal digits.

export const width = (version) => (version === "4" ? 32 : 128);

export function key(text) {
  if (!text.includes(":")) {
    const [a, b, c, d] = text.split(".");
    return "4" + (((a << 24) | (b << 16) | (c << 8) | d) >>> 0).toString(16).padStart(8, "0");
  }
  const [head, tail] = text.split("::");
  const left = head ? head.split(":") : [];
  const right = tail ? tail.split(":") : [];
  const zeros = tail === undefined ? [] : Array(Math.max(0, 8 - left.length - right.length)).fill("0");
  return "6" + [...left, ...zeros, ...right].map((each) => each.padStart(4, "0")).join("");
}

// The number of the `count` bits behind the first `from` bits of an address; count is 8 at most.
export function bits(keyed, from, count) {
  const first = from >> 2, last = (from + count + 3) >> 2;
  const digits = parseInt(keyed.slice(1 + first, 1 + last), 16);
  return (digits >> (last * 4 - from - count)) & ((1 << count) - 1);
}

export function text(keyed) {
  if (keyed[0] === "4") return [1, 3, 5, 7].map((at) => parseInt(keyed.slice(at, at + 2), 16)).join(".");
  const groups = Array.from({ length: 8 }, (_, at) => parseInt(keyed.slice(1 + at * 4, 5 + at * 4), 16).toString(16));
  const zeros = [...groups.join(":").matchAll(/\b0(?::0)+\b/g)].sort((a, b) => b[0].length - a[0].length)[0];
  if (!zeros) return groups.join(":");
  const joined = groups.join(":");
  return `${joined.slice(0, zeros.index).replace(/:$/, "")}::${joined.slice(zeros.index + zeros[0].length).replace(/^:/, "")}`;
}

const number = (keyed) => BigInt("0x" + keyed.slice(1));
const ofNumber = (version, value) => version + value.toString(16).padStart(width(version) / 4, "0");

// A prefix: key of its first address, and its length. null if the text is none.
export function prefix(given) {
  const [address, length] = given.trim().split("/");
  const four = /^(\d{1,3})(\.\d{1,3}){3}$/.test(address) && address.split(".").every((each) => each < 256);
  const six = address.includes(":") && /^[0-9a-fA-F:]+$/.test(address) && address.split("::").length < 3;
  if (!four && !six) return null;
  const keyed = key(address.toLowerCase());
  const whole = width(keyed[0]);
  const bitsOf = length === undefined ? whole : Number(length);
  if (keyed.length !== 1 + whole / 4 || !Number.isInteger(bitsOf) || bitsOf < 0 || bitsOf > whole) return null;
  const rest = BigInt(whole - bitsOf);
  return { first: ofNumber(keyed[0], (number(keyed) >> rest) << rest), length: bitsOf };
}

// The prefix number `index` of those that are `more` bits longer.
export function child(of, more, index) {
  const version = of.first[0];
  const shift = BigInt(width(version) - of.length - more);
  return { first: ofNumber(version, number(of.first) + (BigInt(index) << shift)), length: of.length + more };
}

export function wider(of, less) {
  return prefix(`${text(of.first)}/${Math.max(0, of.length - less)}`);
}

export function last(of) {
  const version = of.first[0];
  return ofNumber(version, number(of.first) + (1n << BigInt(width(version) - of.length)) - 1n);
}

export const holds = (outer, inner) =>
  outer.length <= inner.length && outer.first <= inner.first && inner.first <= last(outer) && outer.first[0] === inner.first[0];

export const show = (of) => (of.length === width(of.first[0]) ? text(of.first) : `${text(of.first)}/${of.length}`);
