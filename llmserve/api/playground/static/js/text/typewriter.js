/**
 * An answer that grows on the page. Blocks that are complete are never touched again; the last one
 * is read anew at most once per frame, and code only gets its new letters.
 */

import { elementOf } from "./markdown_view.js";
import { blocksOf } from "./markdown.js";

export class Typewriter {
  /** @param {HTMLElement} page where the blocks are put. */
  constructor(page) {
    this.page = page;
    this.text = "";
    this.settled = 0; // so much of the text is in blocks that are complete
    this.open = null; // the element of the last block, and the block
    this.frame = 0;
    this.onDrawn = () => {};
  }

  /**
   * The text so far; it only ever grows.
   *
   * @param {string} text
   */
  write(text) {
    this.text = text;
    this.frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Draw what there is, at once: nothing more will come. */
  finish() {
    cancelAnimationFrame(this.frame);
    this.#draw();
    if (this.open?.block.type === "code") this.#close({ ...this.open.block, isOpen: false });
  }

  #draw() {
    this.frame = 0;
    const blocks = blocksOf(this.text.slice(this.settled));
    const from = this.settled;
    blocks.forEach((block, number) => {
      if (number > 0) this.open = null;
      this.#show(block);
      if (number === blocks.length - 1) this.settled = from + block.start;
    });
    this.onDrawn();
  }

  #show(block) {
    if (this.open !== null && isLonger(this.open.block, block)) {
      const code = this.open.element.querySelector("code");
      code.append(block.text.slice(this.open.block.text.length));
      code.normalize();
      this.open.block = block;
    } else {
      this.#close(block);
    }
  }

  #close(block) {
    const element = elementOf(block);
    if (this.open === null) this.page.append(element);
    else this.open.element.replaceWith(element);
    this.open = { element, block };
  }
}

/** Whether a block is code that only got more letters. */
function isLonger(before, now) {
  return (
    before.type === "code" &&
    now.type === "code" &&
    before.isOpen &&
    now.isOpen &&
    before.language === now.language &&
    now.text.startsWith(before.text)
  );
}
