// A job's page: follows the job while it runs, then hands over to the pictures and the variant.
import { ApiError, post, remove } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { follow } from "/assets/follow.js";
import { say } from "/assets/page.js";

const place = document.getElementById("job");
const id = place.dataset.job;
const ENDED = ["succeeded", "failed", "cancelled"];

// ---- the run

const best = () => [...document.querySelectorAll(".best [data-key]")];
let known = new Set(best().map((row) => row.dataset.key));

function came() {
  for (const row of best()) if (known.size && !known.has(row.dataset.key)) row.classList.add("fresh");
  known = new Set(best().map((row) => row.dataset.key));
  return !ENDED.includes(document.querySelector("#run [data-state]")?.dataset.state);
}

const refresh = ENDED.includes(place.dataset.state) ? null : follow({
  events: `/api/backtests/jobs/${id}/events`,
  kinds: ["state", "progress", "best"],
  part: `/_partial/jobs/${id}/run`,
  came,
});

// ---- what can be done to a job

place.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-cancel], [data-delete]");
  if (!button) return;
  const cancels = "cancel" in button.dataset;
  const question = cancels
    ? "Cancel this job? Ranked rows are kept from the second stage on. The same request, started later, does not compute again what is computed already."
    : "Delete this job with its results? Strategies that were saved of it stay.";
  if (!(await sure(question, cancels ? "Cancel the job" : "Delete the job", cancels ? "Let it run" : "Keep it"))) return;
  try {
    if (cancels) { await post(`/backtests/jobs/${id}/cancel`); refresh(); }
    else { await remove(`/backtests/jobs/${id}`); location.assign("/backtests/jobs"); }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.message);
  }
});

// ---- the ranked rows, which are there before what draws the pictures

const pictures = document.getElementById("ranked") ? drawn() : null;

async function drawn() {
  const { explore } = await import("/assets/job_grid.js");
  const { inspect } = await import("/assets/job_variant.js");
  const { look } = inspect(id);
  explore(id, look, place.dataset.columns === "yes");
  return look;
}

// Empty fields, not those that the page came with.
place.addEventListener("click", (event) => {
  if (!event.target.closest("[data-clear]")) return;
  event.preventDefault();
  const form = document.getElementById("filters");
  for (const field of form.querySelectorAll("input, select")) field.value = "";
  form.requestSubmit();
  form.querySelector("summary").focus();
});

place.addEventListener("click", async (event) => {
  const fold = event.target.closest("[data-group]");
  if (fold) {
    const open = fold.getAttribute("aria-expanded") === "false", body = fold.closest("tbody");
    fold.setAttribute("aria-expanded", String(open));
    for (const row of body.querySelectorAll(".member")) row.hidden = !open;
    for (const span of body.querySelectorAll(".spread")) span.hidden = open;
    for (const own of body.querySelectorAll(".own")) own.hidden = !open;
    return;
  }
  const row = event.target.closest("#ranked tr[data-rank]");
  if (!row || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const look = await pictures;
  look({ rank: Number(row.dataset.rank), key: row.dataset.key });
});
