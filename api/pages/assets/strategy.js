// A strategy's page: starts, follows and stops its run. Events say that something changed, the
// service says what; where no stream comes through, the page asks.
import "/assets/strategies.js";
import { ApiError, get, post } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { moment, number, percent } from "/assets/job_numbers.js";
import { say } from "/assets/page.js";

const place = document.getElementById("strategy");
const { strategy: id, run } = place.dataset;
const here = `/strategies/${id}/runs/${run}`;
const KINDS = [
  "run_started", "run_state_changed", "run_stop_requested", "run_stopped", "run_failed",
  "signal", "trade_open", "trade_close", "gap", "repair",
];
const FAILURES = 3, POLL_MS = 2000, LEAST_MS = 400, QUIET_MS = 15_000;

const shown = () => document.querySelector("#run > section");
const isActive = () => shown()?.dataset.active === "yes";

let failures = 0, asked = null, again = false, stream = null, timer = null, seen = "", words = "";

function live(text) {
  words = text;
  const line = document.getElementById("live");
  if (line) line.textContent = text;
}

async function refresh() {
  if (asked) { again = true; return; }
  asked = htmx.ajax("GET", `/_partial/strategies/${id}/run?run=${run}`, { target: "#run", swap: "innerHTML" });
  try { await asked; } catch { /* the next one may come through */ }
  if (!shown()) drawn = null; // an error is there instead; the next answer may be good
  else if (isActive()) { live(words); curve(); }
  else { location.reload(); return; }
  setTimeout(() => { asked = null; if (again) { again = false; refresh(); } }, LEAST_MS);
}

function every(ms) {
  clearInterval(timer);
  timer = setInterval(refresh, ms);
}

function follow() {
  stream = new EventSource(`/api${here}/events?cursor=${encodeURIComponent(seen)}`);
  stream.onopen = () => { failures = 0; live("as it happens"); };
  stream.onerror = () => {
    failures += 1;
    live("trying to reach the service …");
    if (failures >= FAILURES) {
      stream.close();
      live("asking every two seconds");
      every(POLL_MS);
    } else if (stream.readyState === EventSource.CLOSED) setTimeout(follow, POLL_MS);
  };
  for (const kind of KINDS) {
    stream.addEventListener(kind, (event) => { seen = event.lastEventId; refresh(); });
  }
}

// ---- equity

let drawn = null;

async function curve() {
  const bar = shown().dataset.bar;
  if (!bar || bar === drawn) return;
  drawn = bar;
  let found;
  const { axis, draw, timeAxis, tooltip } = await import("/assets/charts.js");
  try { found = await get(`${here}/equity`); } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    drawn = null;
    return;
  }
  const { ts, equity, low, high, close } = found;
  if (!ts.length) return;
  const held = close.map((one) => equity[0] * one / close[0]);
  const pairs = (values) => values.map((value, i) => [ts[i], value]);
  const gained = 100 * (equity.at(-1) / equity[0] - 1), holding = 100 * (close.at(-1) / close[0] - 1);
  const text = `${percent(gained)} since ${moment(ts[0])}, between ${number(Math.min(...low))} and ${number(Math.max(...high))}. Holding the instrument: ${percent(holding)}.`;
  document.getElementById("equity-words").textContent = text;
  draw(document.getElementById("equity"), `Equity of the run. ${text}`, (colours) => ({
    grid: { left: 8, right: 16, top: 16, bottom: 8, containLabel: true },
    tooltip: tooltip({ trigger: "axis", valueFormatter: (value) => number(value) }),
    xAxis: timeAxis(), yAxis: axis({ type: "value", scale: true }),
    series: [
      { name: "holding", type: "line", data: pairs(held), showSymbol: false, lineStyle: { color: colours.soft, width: 1 }, itemStyle: { color: colours.soft } },
      { name: "this run", type: "line", data: pairs(equity), showSymbol: ts.length < 3, lineStyle: { color: colours.accent, width: 1.8 }, itemStyle: { color: colours.accent } },
    ],
  }));
}

// ---- what can be done to a run

async function check(button) {
  button.disabled = true;
  button.textContent = "Checking …";
  await post(`${here}/reconciliation`);
  say("Checked.");
}

place.addEventListener("click", async (event) => {
  const button = event.target.closest("#start, #stop, #check");
  if (!button) return;
  if (button.id === "stop" && !(await sure("Stop this run? An open position stays as it is, and a later start is a new run."))) return;
  try {
    if (button.id === "start") {
      await post(`/strategies/${id}/run`);
      location.assign(`/strategies/${id}`);
    } else if (button.id === "stop") {
      await post(`/strategies/${id}/stop`);
      refresh();
    } else {
      await check(button);
      await part();
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    button.disabled = false;
    if (button.id === "check") button.textContent = "Check now";
    say(error.message);
  }
});

// Of a run that has ended, too, which is not followed.
async function part() {
  await htmx.ajax("GET", `/_partial/strategies/${id}/run?run=${run}`, { target: "#run", swap: "innerHTML" });
  live(words);
}

if (shown()) {
  curve();
  if (isActive()) {
    seen = shown().dataset.seen;
    follow();
    every(QUIET_MS);
  }
}
