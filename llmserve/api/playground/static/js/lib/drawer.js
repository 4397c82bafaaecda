/** A side of the page that can be put away; over a narrow page it lies on top of the rest. */

export class Drawer {
  /**
   * @param {HTMLElement} element
   * @param {HTMLElement} button that opens and closes it.
   * @param {{name: string, wide: string}} options the name of its state on the body, and the
   *     width from which it stands beside the rest.
   */
  constructor(element, button, { name, wide }) {
    this.element = element;
    this.button = button;
    this.name = name;
    this.beside = matchMedia(`(min-width: ${wide})`);
    button.setAttribute("aria-controls", element.id);
    button.addEventListener("click", () => this.set(!this.isOpen));
    this.beside.addEventListener("change", () => this.set(this.isOpen && this.beside.matches));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isOpen && !this.beside.matches) {
        event.stopImmediatePropagation();
        this.set(false);
      }
    });
    document.addEventListener("pointerdown", ({ target }) => {
      if (!this.isOpen || this.beside.matches) return;
      const isInside = element.contains(target) || button.contains(target);
      if (!isInside && !target.closest("dialog")) this.set(false);
    });
  }

  get isOpen() {
    return document.body.dataset[this.name] === "open";
  }

  /**
   * Open or close it. One that lies on top takes the focus, and gives it back.
   *
   * @param {boolean} isOpen
   */
  set(isOpen) {
    const hadFocus = this.element.contains(document.activeElement);
    document.body.dataset[this.name] = isOpen ? "open" : "closed";
    this.element.inert = !isOpen;
    this.button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen && !this.beside.matches) {
      this.element.querySelector("button, select, input, textarea, a")?.focus();
    } else if (!isOpen && hadFocus) {
      this.button.focus();
    }
  }

  /** Put it away where it lies on top of the rest. */
  closeIfOnTop() {
    if (!this.beside.matches) this.set(false);
  }
}
