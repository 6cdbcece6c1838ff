// Numbers as the page's templates say them, colours of a heat map, tables.
const THIN = "\u202f", MINUS = "\u2212";

export function number(value, places = 2) {
  if (value === null || value === undefined) return "\u2013";
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? Math.min(places, 1) : places;
  const [whole, rest] = Math.abs(value).toFixed(digits).split(".");
  const text = whole.replace(/\B(?=(\d{3})+(?!\d))/g, THIN) + (rest ? `.${rest}` : "");
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

export const percent = (value) => (value === null || value === undefined ? "\u2013" : `${value > 0 ? "+" : ""}${number(value)}${THIN}%`);
export const countText = (value) => Math.round(value).toString().replace(/\B(?=(\d{3})+(?!\d))/g, " ");
export const side = (value) => (value > 0 ? "gain" : value < 0 ? "loss" : "");
export const moment = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

// About five significant digits: prices of any size stay readable.
export function price(value) {
  if (value === null || value === undefined) return "\u2013";
  const size = Math.abs(value);
  const places = size >= 1000 ? 1 : size >= 10 ? 3 : size === 0 ? 0 : Math.min(8, 4 - Math.floor(Math.log10(size)));
  const [whole, rest] = size.toFixed(places).split(".");
  return (value < 0 ? MINUS : "") + whole.replace(/\B(?=(\d{3})+(?!\d))/g, THIN) + (rest ? `.${rest}` : "");
}

// Colours measure from zero, the same on both sides; far outliers get the end colour, or one cell
// would grey out all others.
export function scaleOf(cells, colours, aggregate) {
  const values = cells.filter((value) => value !== null).sort((a, b) => a - b);
  const all = [colours.heatLow, colours.heatBelow, colours.heatZero, colours.heatAbove, colours.heatHigh];
  if (aggregate === "winners") return { min: 0, max: 100, inRange: { color: all } };
  if (!values.length) return { min: 0, max: 1, inRange: { color: all } };
  const at = (part) => values[Math.round(part * (values.length - 1))];
  const body = at(0.98) - at(0.02) || Math.abs(at(0.5)) || 1;
  const low = Math.max(values[0], at(0.02) - body / 2), high = Math.min(values.at(-1), at(0.98) + body / 2);
  if (low < 0 && high > 0) {
    const reach = Math.max(-low, high);
    return { min: -reach, max: reach, inRange: { color: all } };
  }
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
