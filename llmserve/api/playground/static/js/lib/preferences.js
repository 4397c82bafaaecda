/**
 * What the visitor chose, kept by the browser. A browser that keeps nothing (a private window) is
 * no error: choices last as long as the page.
 */

const PREFIX = "llmserve.";
const unkept = new Map();

/**
 * A choice, or what stands in its place.
 *
 * @param {string} name
 * @param {string} fallback
 * @returns {string}
 */
export function preference(name, fallback) {
  return read(globalThis.localStorage, name) ?? unkept.get(name) ?? fallback;
}

/**
 * Keep a choice.
 *
 * @param {string} name
 * @param {string} value
 */
export function setPreference(name, value) {
  if (!write(globalThis.localStorage, name, value)) unkept.set(name, value);
}

/** The key for the server: kept until the tab is closed, and longer only where it shall be. */
export class KeyRing {
  /** @param {string} name where it is kept. */
  constructor(name) {
    this.name = name;
    this.value = read(globalThis.sessionStorage, name) ?? read(globalThis.localStorage, name) ?? "";
  }

  /** Whether the browser remembers the key after the tab is closed. */
  get isRemembered() {
    return Boolean(read(globalThis.localStorage, this.name));
  }

  /**
   * Use another key from now on.
   *
   * @param {string} value empty for none.
   * @param {boolean} remember
   */
  set(value, remember) {
    this.value = value.trim();
    write(globalThis.sessionStorage, this.name, this.value);
    write(globalThis.localStorage, this.name, remember ? this.value : "");
  }
}

function read(storage, name) {
  try {
    return storage?.getItem(PREFIX + name) || null;
  } catch {
    return null; // the browser allows this page no storage
  }
}

function write(storage, name, value) {
  try {
    if (value === "") storage.removeItem(PREFIX + name);
    else storage.setItem(PREFIX + name, value);
    return true;
  } catch {
    return false;
  }
}
