/** All conversations, the last one used first, and each as it is kept. Knows no page. */

import { exported, imported } from "./conversation.js";

export class Library {
  /**
   * @param {import("./store.js").ConversationStore} store
   * @param {{onChange: () => void, onLost: () => void}} listeners the list is another one; a
   *     conversation could not be kept.
   */
  constructor(store, { onChange, onLost }) {
    this.store = store;
    this.onChange = onChange;
    this.onLost = onLost;
    this.conversations = [];
    this.removed = new Set();
  }

  /** Read what is kept. */
  async load() {
    this.conversations = await this.store.all();
  }

  /** @param {string} id */
  find(id) {
    return this.conversations.find((conversation) => conversation.id === id);
  }

  /**
   * Keep a conversation as it is now, unless it is empty or was removed meanwhile.
   *
   * @param {import("./conversation.js").Conversation} conversation
   */
  async save(conversation) {
    if (conversation.messages.length === 0 || this.removed.has(conversation.id)) return;
    conversation.updatedAt = Date.now();
    this.conversations = [conversation, ...this.#without(conversation.id)];
    this.onChange();
    await this.#put(conversation);
  }

  /**
   * @param {string} id
   * @param {string} title
   */
  async rename(id, title) {
    const conversation = this.find(id);
    conversation.title = title;
    this.onChange();
    await this.#put(conversation);
  }

  /**
   * Take a conversation out; `restore` brings it back.
   *
   * @param {string} id
   */
  async remove(id) {
    this.removed.add(id);
    this.conversations = this.#without(id);
    this.onChange();
    await this.store.remove(id);
  }

  /** @param {import("./conversation.js").Conversation} conversation */
  async restore(conversation) {
    this.removed.delete(conversation.id);
    await this.save(conversation);
  }

  /** A file with all of them. */
  export() {
    return exported(this.conversations);
  }

  /**
   * Add those of a file.
   *
   * @param {string} text
   * @returns {number} how many.
   * @throws {Error} it is no such file.
   */
  import(text) {
    const found = imported(text);
    const all = [...found, ...this.conversations];
    this.conversations = all.sort((a, b) => b.updatedAt - a.updatedAt);
    this.onChange();
    for (const conversation of found) this.#put(conversation);
    return found.length;
  }

  #without(id) {
    return this.conversations.filter((conversation) => conversation.id !== id);
  }

  async #put(conversation) {
    try {
      await this.store.put(conversation);
    } catch {
      this.onLost(); // the disk is full, say
    }
  }
}
