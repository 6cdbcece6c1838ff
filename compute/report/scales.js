"use strict";
// What every chart needs: texts of numbers, colours, ticks.

const MINUS = "\u2212", THIN = "\u202f";

function grouped(text) {
  const [whole, rest] = text.split(".");
  const spaced = whole.replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
  return rest === undefined ? spaced : spaced + "." + rest;
}

function fixed(value, places) {
  const text = grouped(Math.abs(value).toFixed(places));
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

// About four significant digits: prices and ratios of any size stay readable.
function brief(value) {
  const size = Math.abs(value);
  if (size >= 1e7) return (value < 0 ? MINUS : "") + grouped(String(+(size / 1e6).toPrecision(4))) + " M";
  const places = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : size === 0 ? 0 : Math.min(8, 3 - Math.floor(Math.log10(size)));
  return fixed(value, places);
}

function percent(value, sign = true) {
  const size = Math.abs(value);
  const text = fixed(value, size >= 1000 ? 0 : size >= 100 ? 1 : 2) + THIN + "%";
  return sign && value > 0 ? "+" + text : text;
}

// An axis label: no more decimals than the tick needs.
function axisPercent(value, sign = true) {
  const text = grouped(String(+Math.abs(value).toPrecision(4))) + THIN + "%";
  return (value < 0 ? MINUS : sign && value > 0 ? "+" : "") + text;
}

const color = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function rgb(hex) {
  return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
}

function blend(stops, position) {
  const at = Math.min(Math.max(position, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2), part = at - i;
  return "rgb(" + stops[i].map((v, k) => Math.round(v + (stops[i + 1][k] - v) * part)).join(",") + ")";
}

// A context in CSS pixels, cleared, sharp on any screen.
function surfaceOf(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight, scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  return { pen, width, height };
}

function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(wanted, 1);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const m of [1, 2, 5]) { const v = m * 10 ** e; if (v >= low && v <= high) found.push(v); }
  return found.length > 1 && found.length < 9 ? found : ticks(low, high, 4).filter(v => v > 0);
}

const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const CLOCK_STEPS = [1, 5, 15, 30, 60, 180, 360, 720].map(m => m * MINUTE).concat([1, 2, 4, 7, 14].map(d => d * DAY));

function timeTicks(start, end, wanted) {
  const raw = (end - start) / Math.max(wanted, 1), step = CLOCK_STEPS.find(s => s >= raw);
  const found = [];
  if (step) {
    for (let t = Math.ceil(start / step) * step; t <= end; t += step) found.push(t);
  } else {
    const months = [1, 2, 3, 6, 12, 24, 60].find(m => m * 30.4 * DAY >= raw) || 120;
    const first = new Date(start);
    let month = Math.floor((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months;
    for (; ; month += months) {
      const t = Date.UTC(Math.floor(month / 12), month % 12, 1);
      if (t > end) break;
      if (t >= start) found.push(t);
    }
  }
  const iso = t => new Date(t).toISOString();
  const text = t => !step ? (iso(t).slice(5, 7) === "01" ? iso(t).slice(0, 4) : MONTHS[new Date(t).getUTCMonth()] + " " + iso(t).slice(2, 4))
    : step >= DAY || t % DAY === 0 ? +iso(t).slice(8, 10) + " " + MONTHS[new Date(t).getUTCMonth()] : iso(t).slice(11, 16);
  return found.map(t => ({ at: t, text: text(t) }));
}
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

// Index of the last element <= wanted in an ascending array, -1 when there is none.
function lastAtMost(sorted, wanted) {
  let low = 0, high = sorted.length;
  while (low < high) { const mid = (low + high) >> 1; if (sorted[mid] <= wanted) low = mid + 1; else high = mid; }
  return low - 1;
}
