// Runs before the page is painted, so that no page flashes in the other theme. Not a module, since
// modules run after the page was read.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("llmserve.theme");
  } catch {
    // The browser allows this page no storage.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
