// Numbers as the page's templates say them, colours of a heat map, tables.
// The rules are those of words.py and of price() in strategy_view.py; a test holds both together.
const THIN = "\u202f", MINUS = "\u2212", NONE = "\u2013";
const spaced = (digits, gap) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, gap);

function grouped(text) {
  const [whole, rest] = text.split(".");
  return spaced(whole, THIN) + (rest ? `.${rest}` : "");
}

export const PERCENT = `${THIN}%`;
export const told = (sentence) => sentence.replaceAll(" %", PERCENT);

export function number(value, places = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : `${MINUS}\u221e`;
  const text = grouped(Math.abs(value).toFixed(places));
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

export function percent(value) {
  const text = number(value);
  return text === NONE ? text : `${value > 0 ? "+" : ""}${text}${PERCENT}`;
}

// A number of an axis or a parameter, with the digits that it has.
export function plain(value) {
  const text = String(Math.abs(Number(Number(value).toPrecision(10))));
  return (value < 0 ? MINUS : "") + (text.includes("e") ? text : grouped(text));
}

// A parameter by what tells it apart, and its value, as job_view.py says them.
export function parameterName(name) {
  const parts = name.split("."), label = parts.pop().replace(/_pct$/, "").replaceAll("_", " ");
  return parts.join(".") === "risk" ? label : `${parts.pop() ?? ""} ${label}`.trim();
}

export function setting(name, value) {
  if (value === null) return "off";
  if (typeof value !== "number") return String(value);
  return String(Number(value.toPrecision(12))).replace("-", MINUS) + (name.startsWith("risk.") ? PERCENT : "");
}

export const countText = (value) => spaced(Math.round(value).toString(), " ");
export const plural = (value, one) => `${countText(value)} ${one}${value === 1 ? "" : "s"}`;
export const side = (value) => (value > 0 ? "gain" : value < 0 ? "loss" : "");
export const moment = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

// About six digits of a price of any size.
export function price(value) {
  if (!Number.isFinite(value)) return NONE;
  const size = value ? Math.floor(Math.log10(Math.abs(value))) : 0;
  const [whole, rest] = number(value, Math.min(8, Math.max(2, 5 - size))).split(".");
  return `${whole}.${rest.slice(0, 2)}${rest.slice(2).replace(/0+$/, "")}`;
}

const STEPS = 24;

// Part of the way between two colours of the style sheet.
function mixed(from, to, part) {
  const [a, b] = [from, to].map((one) => [1, 3, 5].map((at) => parseInt(one.slice(at, at + 2), 16)));
  return `rgb(${a.map((value, i) => Math.round(value + (b[i] - value) * part)).join(",")})`;
}

// The colours of a range that has zero inside: each side has all of its shades, however far it goes.
function aroundZero(low, high, all) {
  const shade = (at) => {
    const way = at < 0 ? 2 - 2 * (at / low) : 2 + 2 * (at / high), first = Math.min(3, Math.floor(way));
    return mixed(all[first], all[first + 1], way - first);
  };
  return Array.from({ length: STEPS + 1 }, (_, i) => shade(low + (i * (high - low)) / STEPS));
}

// Colours measure from zero; far outliers get the end colour, or one cell would grey out all others.
export function scaleOf(cells, colours, aggregate) {
  const values = cells.filter((value) => value !== null).sort((a, b) => a - b);
  const all = [colours.heatLow, colours.heatBelow, colours.heatZero, colours.heatAbove, colours.heatHigh];
  if (aggregate === "winners") return { min: 0, max: 100, inRange: { color: all } };
  if (!values.length) return { min: 0, max: 1, inRange: { color: all } };
  const at = (part) => values[Math.round(part * (values.length - 1))];
  const body = at(0.98) - at(0.02) || Math.abs(at(0.5)) || 1;
  const low = Math.max(values[0], at(0.02) - body / 2), high = Math.min(values.at(-1), at(0.98) + body / 2);
  if (low < 0 && high > 0) return { min: low, max: high, inRange: { color: aroundZero(low, high, all) } };
  const ends = high <= 0 ? all.slice(0, 3) : all.slice(2);
  return { min: low, max: low < high ? high : low + 1, inRange: { color: ends } };
}

export function node(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

export function blank(element) {
  element.replaceChildren();
  element.className = "";
  return element;
}

export function tableInto(element, { head, rows }) {
  const table = node("table"), tr = node("tr"), body = node("tbody"), thead = node("thead");
  head.forEach((text, i) => { const th = node("th", String(text), i ? "figure" : ""); th.scope = "col"; tr.append(th); });
  for (const row of rows) {
    const line = node("tr");
    row.forEach((text, i) => {
      const made = node(i ? "td" : "th", String(text), i ? "figure" : "");
      if (!i) made.scope = "row";
      line.append(made);
    });
    body.append(line);
  }
  thead.append(tr);
  table.append(thead, body);
  element.className = "scroll";
  element.tabIndex = 0;
  element.setAttribute("role", "region");
  element.setAttribute("aria-label", "The numbers of the picture");
  element.append(table);
}
