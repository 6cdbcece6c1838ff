// A strategy's page: starts, follows and stops its run.
import "/assets/strategies.js";
import { ApiError, get, post } from "/assets/api.js";
import { sure } from "/assets/dialogs.js";
import { follow } from "/assets/follow.js";
import { moment, number, percent } from "/assets/job_numbers.js";
import { say } from "/assets/page.js";

const place = document.getElementById("strategy");
const { strategy: id, run } = place.dataset;
const here = `/strategies/${id}/runs/${run}`;
const KINDS = [
  "run_started", "run_state_changed", "run_stop_requested", "run_stopped", "run_failed",
  "signal", "trade_open", "trade_close", "gap", "repair",
];
const QUIET_MS = 15_000;

const partOf = `/_partial/strategies/${id}/run?run=${run}`;
const shown = () => document.querySelector("#run > section");
const isActive = () => shown()?.dataset.active === "yes";

function came() {
  if (!shown()) { drawn = null; return true; } // an error is there instead; the next answer may be good
  if (isActive()) { curve(); inList(); }
  return isActive();
}

// The list of runs is no part of the one that is shown.
function inList() {
  document.getElementById("shown-state")?.replaceChildren(document.querySelector("#run .state").cloneNode(true));
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
  const holding = 100 * (close.at(-1) / close[0] - 1);
  const text = `Between ${number(Math.min(...low))} and ${number(Math.max(...high))} since ${moment(ts[0])}. Holding the instrument: ${percent(holding)}.`;
  document.getElementById("equity-words").textContent = text;
  draw(document.getElementById("equity"), `Equity of the run. ${text}`, (colours) => ({
    grid: { left: 8, right: 16, top: 34, bottom: 8, containLabel: true },
    tooltip: tooltip({ trigger: "axis", valueFormatter: (value) => number(value) }),
    legend: { right: 0, top: 0, textStyle: { color: colours.soft }, icon: "roundRect", itemHeight: 3 },
    xAxis: timeAxis(), yAxis: axis({ type: "value", scale: true }),
    series: [
      { name: "holding the instrument", type: "line", data: pairs(held), showSymbol: false, lineStyle: { color: colours.soft, width: 1 }, itemStyle: { color: colours.soft } },
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
  if (button.id === "stop" && !(await sure("Stop this run? An open position stays as it is, and a later start is a new run.", "Stop the run", "Let it run"))) return;
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
const part = () => htmx.ajax("GET", partOf, { target: "#run", swap: "innerHTML" });

let refresh = null;
if (shown()) {
  curve();
  if (isActive()) {
    refresh = follow({ events: `/api${here}/events`, kinds: KINDS, part: partOf, came, seen: shown().dataset.seen, restMs: QUIET_MS });
  }
}
