// Each indicator of the form drawn as it is chosen, then the time that the job takes: one after the
// other, until something is edited.
import { call } from "/assets/api.js";
import { PERCENT, number, plain, price } from "/assets/job_numbers.js";

const BARS_SHOWN = 240;
const FRAME_MS = { "1m": 6e4, "5m": 3e5, "15m": 9e5, "1h": 36e5, "4h": 144e5, "1d": 864e5 };

// ECharts is large, and the form does not wait for it.
let charts = null;
export const forget = (chart) => charts?.forget(chart);

const shown = new WeakMap();
let asking = new AbortController();

async function ask(path, body) {
  const { signal } = asking;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call("POST", path, body, { signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (error.status !== 429 || attempt > 20) return { error: error.message };
      await new Promise((done) => setTimeout(done, 1000));
      signal.throwIfAborted();
    }
  }
}

// Draws each indicator of a form, then tells the time: what was asked for before is forgotten.
export async function look(form) {
  asking.abort();
  asking = new AbortController();
  const request = JSON.parse(document.getElementById("as-json").textContent);
  const place = document.getElementById("seconds");
  if (place?.dataset.guess) {
    tellTime(place, Number(place.dataset.guess), "A first guess, from grids measured before. Measuring this one …");
  }
  try {
    for (const grid of request.template.indicator_grids) await lookAt(form, grid, request);
    if (place) tellSeconds(place, await ask("/backtests/estimate?timed=true", request));
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

async function lookAt(form, grid, { template, time_range: range }) {
  const block = form.querySelector(`[data-block="${CSS.escape(grid.indicator_id)}"]`);
  if (!block) return;
  const place = block.querySelector("[data-look]"), words = block.querySelector("[data-look-words]");
  const body = {
    instrument_id: template.instrument_id, timeframe: template.timeframe, time_range: lastBars(range, template.timeframe),
    indicator: grid, signals: template.signal_grids?.[grid.indicator_id] ?? {}, points: BARS_SHOWN,
  };
  const key = JSON.stringify(body);
  if (shown.get(place) === key) return;
  const found = await ask("/indicators/preview", body);
  charts ??= await import("/assets/charts.js");
  if (!place.isConnected) return;
  shown.set(place, key);
  if (found.error) {
    charts.forget(place);
    place.classList.remove("drawn");
    words.textContent = found.error;
  } else {
    picture(place, words, found, body.timeframe);
  }
}

function tellTime(place, seconds, said) {
  const [figure, words] = place.children;
  const [, size, unit] = [[7200, 3600, "h"], [90, 60, "min"], [0, 1, "s"]].find(([from]) => seconds >= from);
  figure.textContent = seconds < 1 ? "under a second" : `about ${Math.round(seconds / size)} ${unit}`;
  words.textContent = said;
}

function tellSeconds(place, found) {
  if (!place.isConnected) return; // the form is not ready any more
  const [figure, words] = place.children;
  if (!found.seconds) {
    if (!place.dataset.guess) figure.textContent = "–";
    words.textContent = found.error ?? "Not measured: the job would be refused.";
    return;
  }
  const total = Object.values(found.seconds).reduce((a, b) => a + b, 0);
  tellTime(place, total, `An estimate for ${found.threads} core${found.threads === 1 ? "" : "s"}, measured on a small part of the grid. Starting up takes some seconds more.`);
  for (const { code, message } of found.cautions) {
    if (code === "synthetic_candles" || code === "signals_ignored") continue;
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.textContent = `${message}.`;
    place.closest(".estimate").append(notice);
  }
}

// The end of the range, where the bars can be told apart. What is stored may be told of an instrument
// that was left a moment ago: it counts where it is within the range.
function lastBars(range, frame) {
  const start = Date.parse(range.start), stop = Date.parse(range.end);
  const stored = Number(document.querySelector(".coverage")?.dataset.end ?? Infinity);
  const end = stored > start ? Math.min(stop, stored) : stop;
  const from = Math.max(start, end - BARS_SHOWN * FRAME_MS[frame]);
  return { start: new Date(from).toISOString(), end: new Date(end).toISOString() };
}

function picture(place, words, found, frame) {
  const settings = Object.entries({ ...found.settings, ...found.signals }).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");
  const long = found.long.reduce((a, b) => a + b, 0), short = found.short.reduce((a, b) => a + b, 0);
  const share = (votes) => number(100 * votes / Math.max(1, found.bars), 0) + PERCENT;
  words.textContent = `The last ${found.bars} bars of ${frame}${found.generated ? " (synthetic)" : ""}: ${found.output} with ${settings || "no setting"}. LONG on ${share(long)} of them, SHORT on ${share(short)}.`;
  place.classList.add("drawn");
  place.classList.toggle("two", !found.on_price);
  const times = found.ts_open.map((ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " "));
  const label = `${found.indicator_id} on candles, its votes below. ${words.textContent}`;
  charts.draw(place, label, (colour) => options(found, times, colour));
}

function options(found, times, colour) {
  const below = !found.on_price;
  const tall = below ? ["46%", "24%"] : ["74%"];
  const heights = [...tall, "7%"];
  const tops = below ? ["3%", "56%", "86%"] : ["3%", "83%"];
  const last = heights.length - 1;
  const grid = heights.map((height, i) => ({ left: 54, right: 8, top: tops[i], height }));
  const xAxis = heights.map((_, i) => ({
    gridIndex: i, ...charts.axis({ type: "category", data: times, splitLine: { show: false }, axisLabel: { show: i === last, fontSize: 11 } }),
  }));
  const yAxis = heights.map((_, i) => i === last
    ? { gridIndex: i, min: 0, max: 1, show: false }
    : { gridIndex: i, scale: true, splitNumber: 3, ...charts.axis({ axisLabel: { fontSize: 11 } }) });
  const vote = (votes, other, shade) => ({
    type: "bar", xAxisIndex: last, yAxisIndex: last, stack: "votes", barCategoryGap: "0%", silent: true,
    itemStyle: { color: shade }, data: votes.map((n, i) => n / Math.max(1, n + other[i], found.bars_per_point)),
  });
  return {
    grid, xAxis, yAxis,
    axisPointer: { link: [{ xAxisIndex: "all" }] },
    tooltip: charts.tooltip({ trigger: "axis", formatter: (points) => told(found, times, points[0]?.dataIndex) }),
    series: [
      {
        type: "candlestick", xAxisIndex: 0, yAxisIndex: 0,
        data: found.open.map((open, i) => [open, found.close[i], found.low[i], found.high[i]]),
        itemStyle: { color: colour.gain, color0: colour.loss, borderColor: colour.gain, borderColor0: colour.loss },
      },
      {
        type: "line", xAxisIndex: below ? 1 : 0, yAxisIndex: below ? 1 : 0, data: found.value, showSymbol: false,
        lineStyle: { color: colour.accent, width: 2 }, itemStyle: { color: colour.accent },
        markLine: below ? { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour.soft }, data: levels(found) } : undefined,
      },
      vote(found.long, found.short, colour.gain),
      vote(found.short, found.long, colour.loss),
    ],
  };
}

const levels = (found) => Object.entries(found.signals)
  .filter(([name]) => name.endsWith("threshold")).map(([, value]) => ({ yAxis: value }));

function told(found, times, i) {
  if (i === undefined) return "";
  const vote = found.long[i] > found.short[i] ? "LONG" : found.short[i] > found.long[i] ? "SHORT" : "neutral";
  const value = found.value[i];
  return `${times[i]}\nclose ${price(found.close[i])}\n${found.output} ${value === null ? "–" : plain(value.toPrecision(7))}\n${vote}`;
}
