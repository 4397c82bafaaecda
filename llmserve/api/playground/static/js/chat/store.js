/** Where conversations are kept: in the browser's own database, on no server. */

const NAME = "llmserve";
const VERSION = 1;
const CONVERSATIONS = "conversations";

export class ConversationStore {
  /** A browser that keeps nothing (a private window) keeps them as long as the page is open. */
  constructor() {
    this.unkept = new Map();
    this.opening = null;
  }

  /**
   * All of them, the last one used first.
   *
   * @returns {Promise<import("./conversation.js").Conversation[]>}
   */
  async all() {
    const kept = await this.#run("readonly", (store) => store.getAll());
    const all = kept ?? [...this.unkept.values()];
    return all.sort((a, b) => b.updatedAt - a.updatedAt);
  }

  /** @param {import("./conversation.js").Conversation} conversation */
  async put(conversation) {
    const copy = structuredClone(conversation);
    const isKept = await this.#run("readwrite", (store) => store.put(copy));
    if (isKept === null) this.unkept.set(copy.id, copy);
  }

  /** @param {string} id */
  async remove(id) {
    this.unkept.delete(id);
    await this.#run("readwrite", (store) => store.delete(id));
  }

  /** What the request gives, `undefined` included; null where there is no database. */
  async #run(mode, ask) {
    const database = await (this.opening ??= opened());
    if (database === null) return null;
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(CONVERSATIONS, mode);
      const request = ask(transaction.objectStore(CONVERSATIONS));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error); // the disk is full, say
    });
  }
}

function opened() {
  return new Promise((resolve) => {
    let request;
    try {
      request = indexedDB.open(NAME, VERSION);
    } catch {
      resolve(null);
      return;
    }
    request.onupgradeneeded = () => {
      request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  });
}
