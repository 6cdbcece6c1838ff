// Two ticked jobs lead to their comparison.
const link = document.getElementById("compare"), note = document.getElementById("compare-note");

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-compare]")) return;
  const ticked = [...document.querySelectorAll("[data-compare]:checked")];
  if (ticked.length > 2) ticked.find((box) => box !== event.target).checked = false;
  const [a, b] = [...document.querySelectorAll("[data-compare]:checked")].map((box) => box.value);
  link.hidden = !b;
  note.hidden = Boolean(b);
  note.textContent = a ? "Tick one more." : "Tick two jobs to see them side by side.";
  if (b) link.href = `/backtests/jobs/compare?a=${a}&b=${b}`;
});
