// A job's page: follows the job while it runs, then hands over to the pictures and the variant.
import { ApiError, post, remove } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { say } from "/assets/page.js";

const place = document.getElementById("job");
const id = place.dataset.job;
const ENDED = ["succeeded", "failed", "cancelled"];
const FAILURES = 3, POLL_MS = 2000, LEAST_MS = 400;

// ---- the run: events say that something changed, the service says what

let failures = 0, asked = null, again = false, stream = null, polling = null;

const live = (text) => {
  const line = document.getElementById("live");
  if (line) line.textContent = text;
};

async function refresh() {
  if (asked) { again = true; return; }
  const known = new Set([...document.querySelectorAll(".best [data-key]")].map((row) => row.dataset.key));
  asked = htmx.ajax("GET", `/_partial/jobs/${id}/run`, { target: "#run", swap: "innerHTML" });
  try { await asked; } catch { /* the next one may come through */ }
  for (const row of document.querySelectorAll(".best [data-key]")) {
    if (known.size && !known.has(row.dataset.key)) row.classList.add("fresh");
  }
  const state = document.querySelector("#run [data-state]")?.dataset.state;
  if (ENDED.includes(state)) { stop(); location.reload(); return; }
  setTimeout(() => { asked = null; if (again) { again = false; refresh(); } }, LEAST_MS);
}

function stop() {
  stream?.close();
  clearInterval(polling);
}

function follow() {
  stream = new EventSource(`/api/backtests/jobs/${id}/events`);
  stream.onopen = () => { failures = 0; live("as it happens"); };
  stream.onerror = () => {
    failures += 1;
    live("trying to reach the service …");
    if (failures >= FAILURES) { stream.close(); poll(); }
    else if (stream.readyState === EventSource.CLOSED) setTimeout(follow, POLL_MS);
  };
  for (const kind of ["state", "progress", "best"]) stream.addEventListener(kind, refresh);
}

function poll() {
  live("asking every two seconds");
  polling = setInterval(refresh, POLL_MS);
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "run") live(polling ? "asking every two seconds" : "as it happens");
});

// ---- what can be done to a job

place.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-cancel], [data-delete]");
  if (!button) return;
  const cancels = "cancel" in button.dataset;
  const question = cancels
    ? "Cancel this job? What it has found so far stays."
    : "Delete this job with its results? Strategies that were saved of it stay.";
  if (!(await sure(question))) return;
  try {
    if (cancels) { await post(`/backtests/jobs/${id}/cancel`); refresh(); }
    else { await remove(`/backtests/jobs/${id}`); location.assign("/backtests/jobs"); }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.message);
  }
});

if (ENDED.includes(place.dataset.state)) {
  if (document.getElementById("ranked")) {
    const { explore } = await import("/assets/job_grid.js");
    const { inspect } = await import("/assets/job_variant.js");
    const { look } = inspect(id);
    explore(id, look, place.dataset.columns === "yes");
  }
} else {
  follow();
}
