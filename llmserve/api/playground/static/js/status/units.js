/** Numbers as the visitor's language writes them. */

import { language } from "../lib/i18n.js";

/** @param {number} value */
export function count(value) {
  return value.toLocaleString(language(), {
    maximumFractionDigits: value < 10 && value % 1 ? 1 : 0,
  });
}

/** @param {number} value seconds, of which most are less than one. */
export function duration(value) {
  if (value < 1)
    return `${(value * 1000).toLocaleString(language(), { maximumSignificantDigits: 3 })} ms`;
  return `${value.toLocaleString(language(), { maximumSignificantDigits: 3 })} s`;
}

/** @param {number} value 0 to 1. */
export function share(value) {
  return value.toLocaleString(language(), { style: "percent", maximumFractionDigits: 0 });
}

/** @param {number|null} value bytes. */
export function bytes(value) {
  if (!value) return "–";
  const [unit, size] = value < 2 ** 30 ? ["MiB", 2 ** 20] : ["GiB", 2 ** 30];
  return `${(value / size).toLocaleString(language(), { maximumSignificantDigits: 3 })} ${unit}`;
}

/** @param {number} seconds since something began. */
export function age(seconds) {
  const parts = [
    Math.floor(seconds / 3600),
    Math.floor(seconds / 60) % 60,
    Math.floor(seconds) % 60,
  ];
  return parts
    .map((part, number) => (number === 0 ? part : String(part).padStart(2, "0")))
    .join(":");
}

/** @param {number} time seconds since 1970. */
export function clock(time) {
  return new Date(time * 1000).toLocaleTimeString(language());
}
