// What cannot wait for the other scripts: the chosen theme, before anything is drawn, and presses
// that come before whoever answers them is there. They are kept and pressed again.
(() => {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* storage may be off */ }

  let early = null;
  const keep = (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    early = button;
  };
  document.addEventListener("click", keep, true);
  // Modules have run by then; after a turn HTMX has looked at the page, too.
  document.addEventListener("DOMContentLoaded", () => setTimeout(() => {
    document.removeEventListener("click", keep, true);
    early?.click();
  }));
})();
