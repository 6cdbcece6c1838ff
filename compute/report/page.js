// Fills the page from its data. Every text goes in as a text node, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const { table, market, surface } = data;
const curves = new Map(data.curves.map(curve => [curve.variant, curve]));
const REASONS = ["stop-loss", "take-profit", "signal", "end of data"];
const anyRanked = table.rows.length > 0;
const state = { sort: 0, descending: false, opened: new Set(), chosen: 0 };

function node(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}
const tone = value => value > 0 ? "gain" : value < 0 ? "loss" : "";
const plural = (count, one) => grouped(String(count)) + " " + one + (count === 1 ? "" : "s");
const moment = ms => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

function cellText(column, value) {
  if (value === null || value === undefined) return "\u2013";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  if (column.kind === "parameter") return String(+value.toPrecision(12)).replace("-", MINUS) + (column.unit === "%" ? THIN + "%" : "");
  if (column.unit === "n") return grouped(String(value));
  return column.unit === "%" ? percent(value, column.name.endsWith("total_return_pct")) : fixed(value, 2);
}

function metricOf(variant, name) {
  const at = table.columns.findIndex(column => column.name === name);
  return at < 0 || !table.rows[variant] ? null : table.rows[variant][at];
}

// ---- head

function tile(label, value, note) {
  return node("div", { class: "tile" }, node("p", {}, label), node("p", { class: "figure" }, value), node("p", {}, note));
}

function showHead() {
  const tiles = byId("tiles"), best = metricOf(0, "metric.total_return_pct");
  if (best !== null) tiles.append(tile("Rank 1 returned", percent(best), plural(metricOf(0, "metric.num_trades") ?? 0, "trade")));
  const drop = metricOf(0, "metric.max_drawdown_pct");
  if (drop !== null) tiles.append(tile("Its largest drawdown", percent(drop, false), "below its peak"));
  const later = metricOf(0, "holdout.total_return_pct");
  const bought = data.holdout_hold_pct;
  if (later !== null) tiles.append(tile("On the holdout", percent(later), bought === null ? "bars it was not ranked on" : `buy and hold ${percent(bought)}`));
  const close = market && market.close.values;
  if (close && close.length && close[0] > 0)
    tiles.append(tile("Buy and hold", percent((close[close.length - 1] / close[0] - 1) * 100), "same bars, no costs"));
  if (surface) {
    tiles.append(tile("Median of the grid", percent(surface.median), plural(surface.variants, "base variant")));
    tiles.append(tile("Profitable", percent(surface.profitable_pct, false), "of the base variants"));
    if (surface.verdict && anyRanked) byId("verdict").textContent = surface.verdict;
  }
}

// ---- ranked table

function sortedGroups() {
  const at = state.sort, groups = table.groups.slice(), sign = state.descending ? -1 : 1;
  const value = group => table.rows[group[0]][at];
  return groups.sort((a, b) => {
    const p = value(a), q = value(b);
    if ((p === null) !== (q === null)) return p === null ? 1 : -1;  // unknown values stay last
    if (p === q || p === null) return a[0] - b[0];
    const order = typeof p === typeof q ? (p < q ? -1 : 1) : (String(p) < String(q) ? -1 : 1);
    return order * sign;
  });
}

function showTableHead() {
  byId("ranked").tHead.replaceChildren(node("tr", {}, ...table.columns.map((column, at) => {
    const arrow = node("span", { class: "arrow", "aria-hidden": "true" }, state.sort === at && state.descending ? "\u2193" : "\u2191");
    const press = () => {
      const first = column.kind === "metric" || column.kind === "holdout" ? column.name !== "metric.max_drawdown_pct" : false;
      state.descending = state.sort === at ? !state.descending : first;
      state.sort = at;
      showTableHead(); showTable();
      byId("ranked").tHead.querySelectorAll("button")[at].focus();
    };
    const button = node("button", { type: "button", title: column.kind === "parameter" ? column.name : null, onclick: press },
      column.group ? node("small", {}, column.group) : null, column.label, arrow);
    return node("th", { scope: "col", "aria-sort": state.sort !== at ? "none" : state.descending ? "descending" : "ascending" }, button);
  })));
}

// What a folded group shows where its members differ: the span of their values, or the two it has.
function spanText(column, at, group) {
  const values = [...new Set(group.map(index => table.rows[index][at]))];
  if (values.length === 2) return values.map(value => cellText(column, value)).join(" or ");
  if (values.every(value => typeof value === "number"))
    return cellText(column, Math.min(...values)) + " to " + cellText(column, Math.max(...values));
  return plural(values.length, "value");
}

function rankedRow(index, group, member) {
  const folded = group.length > 1 && !state.opened.has(group[0]) && !member;
  const cells = table.columns.map((column, at) => {
    const value = table.rows[index][at];
    if (column.kind === "rank") {
      const many = group.length > 1 && !member ? node("button", {
        type: "button", class: "many", "aria-expanded": String(!folded),
        "aria-label": `${group.length} rows with equal results`,
        onclick: event => {
          event.stopPropagation();
          if (!state.opened.delete(group[0])) state.opened.add(group[0]);
          showTable();
          byId("ranked").querySelector(`tr[data-variant="${group[0]}"] .many`).focus();
        } }, `\u00d7${group.length} equal`) : null;
      const rank = node("button", { type: "button", class: curves.has(index) ? "rank charted" : "rank",
        "aria-label": `Show rank ${index + 1}` }, String(index + 1));
      const stands = table.equals[index]
        ? node("span", { class: "note", title: table.equals[index] }, ` ${table.equals[index]}`) : null;
      return node("td", {}, rank, " ", many, stands);
    }
    const varies = folded && column.kind === "parameter" && group.some(other => table.rows[other][at] !== value);
    const signed = column.name.endsWith("total_return_pct") ? tone(value) : typeof value === "string" ? "text" : "";
    return node("td", { class: signed }, varies ? node("span", { class: "note" }, spanText(column, at, group)) : cellText(column, value));
  });
  return node("tr", { class: (member ? "member " : "") + (index === state.chosen ? "chosen" : ""), "data-variant": index,
    onclick: () => choose(index) }, ...cells);
}

function showTable() {
  const rows = [];
  for (const group of sortedGroups()) {
    rows.push(rankedRow(group[0], group, false));
    if (state.opened.has(group[0])) for (const index of group.slice(1)) rows.push(rankedRow(index, group, true));
  }
  byId("ranked").tBodies[0].replaceChildren(...rows);
}

function showTableNotes() {
  const metric = data.ranking.primary_metric, equal = table.rows.length - table.groups.length;
  byId("ranked-note").textContent = plural(table.rows.length, "variant")
    + (metric ? ", best " + metric.replace(/_pct$/, "").replace(/_/g, " ") + " first" : "")
    + (equal ? `; ${plural(equal, "row")} folded into equal ones` : "");
  const fixedOnes = table.fixed.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`);
  byId("ranked-fixed").textContent = fixedOnes.length ? "The same in every row: " + fixedOnes.join(", ") + "." : "";
}

// ---- one variant

const charts = new TimeCharts(readout, zoomed => { byId("zoom-out").hidden = !zoomed; });

function valueAt(series, bar) {
  const at = lastAtMost(series.bars, bar);
  if (at < 0) return null;
  const next = Math.min(at + 1, series.bars.length - 1), p = series.values[at], q = series.values[next];
  if (p === null || q === null || next === at) return p;
  return p + (q - p) * (bar - series.bars[at]) / (series.bars[next] - series.bars[at]);
}

// The last listed trade open at a bar; trades never overlap, so the last entry decides.
function tradeAt(trades, bar) {
  const at = lastAtMost(trades.entry_bar, bar);
  return at >= 0 && trades.exit_bar[at] >= bar ? at : -1;
}

function readout(bar) {
  const line = byId("readout"), curve = curves.get(state.chosen);
  if (!curve || bar === null) { line.replaceChildren(); return; }
  const parts = [node("b", {}, moment(charts.time(bar)))], add = (name, text) => parts.push(`\u2003${name} `, node("b", {}, text));
  const equity = valueAt(curve.equity, bar), fall = valueAt(curve.drawdown_pct, bar), price = valueAt(market.close, bar);
  if (equity !== null) add("equity", brief(equity));
  if (fall !== null) add("below peak", percent(-fall, false));
  if (price !== null) add("price", brief(price));
  const trades = curve.trades, at = tradeAt(trades, bar);
  if (at >= 0) {
    add(trades.side[at] > 0 ? "long" : "short", `${brief(trades.entry_price[at])} to ${brief(trades.exit_price[at])}`);
    parts.push(" ", node("b", { class: tone(trades.net_pct[at]) }, percent(trades.net_pct[at])), ` (${REASONS[trades.reason[at]]})`);
  }
  line.replaceChildren(...parts);
}

const swatch = name => { const made = node("span", { class: "swatch" }); made.style.borderColor = `var(--${name})`; return made; };

function showCharts(curve) {
  const shown = Boolean(curve && market && market.bars > 0);
  byId("charts").hidden = !shown;
  byId("charts").parentElement.classList.toggle("plain", !shown);
  if (!shown) return;
  const start = market.close.values[0], hold = start > 0
    ? { bars: market.close.bars, values: market.close.values.map(v => v === null ? null : v / start * curve.init_cash) } : null;
  const positive = [curve.equity, hold].every(series => !series || series.values.every(v => v === null || v > 0));
  byId("log-field").hidden = !positive;
  const lines = [{ series: curve.equity, color: "accent", width: 1.6 }];
  if (hold) lines.unshift({ series: hold, color: "soft", width: 1 });
  byId("equity-key").replaceChildren(swatch("accent"), "this variant", ...(hold ? [swatch("soft"), "buy and hold"] : []));
  const trades = curve.trades, listed = trades.number.length;
  const reasons = REASONS.map((name, i) => trades.reason_counts[i] ? `${grouped(String(trades.reason_counts[i]))} by ${name}` : "").filter(Boolean);
  byId("trade-key").replaceChildren(swatch("gain"), "won", swatch("loss"), "lost", node("span", { class: "key" },
    trades.total ? `${plural(trades.total, "trade")}: ${reasons.join(", ")}` + (listed < trades.total ? `; the ${grouped(String(listed))} largest are drawn` : "") : "no trades"));
  const panel = (id, rest) => {
    byId(id).setAttribute("aria-label", rest.label);
    return { canvas: byId(id), ...rest };
  };
  const boundary = data.holdout && data.holdout.start_ms ? (data.holdout.start_ms - market.first_close_ms) / market.bar_ms : NaN;
  charts.boundary = boundary > 0 && boundary < market.bars ? boundary : null;
  const rank = `rank ${state.chosen + 1}`;
  charts.show(market, [
    panel("equity", { lines, log: byId("log").checked && positive, text: brief, label: `Equity of ${rank} against buy and hold` }),
    panel("underwater", { lines: [{ series: curve.drawdown_pct, color: "loss", width: 1, area: true }], zero: true,
      text: v => axisPercent(v), label: `Drawdown of ${rank} below its running peak` }),
    panel("price", { lines: [{ series: market.close, color: "soft", width: 1 }], marks: trades, text: brief, label: `Trades of ${rank} on the closing price` }),
  ]);
}

const BLOCK_ENDS = new Set(["Duration", "Position Coverage [%]", "Avg. Drawdown Duration", "Expectancy", "Gross Exposure"]);

function showReport(variant) {
  const rows = data.reports[variant], later = data.holdout_reports[variant], report = byId("report");
  report.parentElement.hidden = !rows;
  if (!rows) return;
  report.tHead.replaceChildren(node("tr", {}, node("th", { scope: "col" }, "Metric"),
    node("th", { scope: "col" }, later ? "Ranked on" : "Value"), later ? node("th", { scope: "col" }, "Holdout") : null));
  const cell = ([shown, exact]) => node("td", { title: exact }, shown);
  report.tBodies[0].replaceChildren(...data.metrics.map((metric, i) => node("tr", { class: BLOCK_ENDS.has(metric) ? "rule" : "" },
    node("td", {}, metric), cell(rows[i]), later ? cell(later[i]) : null)));
}

function choose(variant) {
  if (!anyRanked) { for (const id of ["ranked", "variant"]) byId(id).closest("section").hidden = true; return; }
  state.chosen = variant;
  for (const row of byId("ranked").tBodies[0].rows) row.classList.toggle("chosen", row.dataset.variant === String(variant));
  const select = byId("variant");
  if (![...select.options].some(option => option.value === String(variant)))
    select.append(node("option", { value: variant }, `rank ${variant + 1}, table only`));
  select.value = String(variant);
  byId("variant-parameters").replaceChildren(...table.columns.flatMap((column, at) => column.kind !== "parameter" ? []
    : [node("span", {}, column.name.replace(/_pct$/, "").replace(/_/g, " ") + " ", node("b", {}, cellText(column, table.rows[variant][at])))]));
  showReport(variant);
  showCharts(curves.get(variant));
}

// ---- the grid

const heat = new HeatMap(byId("heat"), showCell);
const histogram = new Histogram(byId("histogram"), showBin);
let oriented = null;

// The pair's cells with the chosen axis across, whatever way round they are stored.
function orientedPair(x, y) {
  const pair = surface.pairs.find(p => (p.x === x && p.y === y) || (p.x === y && p.y === x));
  const columns = surface.axes[x].labels, rows = y === null ? [""] : surface.axes[y].labels;
  const place = pair.x === x ? (i, j) => j * columns.length + i : (i, j) => i * rows.length + j;
  return { pair, columns, rows, place, x, y };
}

function showHeat() {
  const several = surface.axes.length > 1;
  const x = Number(byId("heat-x").value), y = several ? Number(byId("heat-y").value) : null;
  const aggregate = byId("heat-aggregate").value, chosen = byId("heat-aggregate").selectedOptions[0].textContent;
  oriented = orientedPair(x, y);
  const { pair, columns, rows, place } = oriented, values = [];
  for (let j = 0; j < rows.length; j++) for (let i = 0; i < columns.length; i++) values.push(pair[aggregate][place(i, j)]);
  const canvas = byId("heat"), names = surface.axes.map(axis => axis.name);
  canvas.dataset.x = names[x]; canvas.dataset.y = several ? names[y] : ""; canvas.dataset.aggregate = aggregate;
  canvas.setAttribute("aria-label", `Heat map, ${chosen} return: ${names[x]} across` + (several ? `, ${names[y]} up` : "")
    + ". Arrow keys move between cells.");
  heat.show({ columns, rows, values, share: aggregate === "profitable", title: names[x] + " \u2192" + (several ? `,  ${names[y]} \u2191` : ""),
    best: anyRanked ? [surface.best_bins[x], several ? surface.best_bins[y] : 0] : null });
}

function showCell(cell) {
  const line = byId("heat-readout");
  if (!cell) { line.textContent = (anyRanked ? "The ring marks rank 1's base variant. " : "") + "Point at a cell for its numbers."; return; }
  const { pair, columns, rows, place, x, y } = oriented, at = place(cell[0], cell[1]);
  const parts = [node("b", {}, `${surface.axes[x].name} ${columns[cell[0]]}` + (y === null ? "" : `, ${surface.axes[y].name} ${rows[cell[1]]}`))];
  for (const [name, label] of [["median", "median"], ["mean", "mean"], ["min", "min"], ["max", "max"], ["profitable", "profitable"]])
    parts.push(`\u2003${label} `, node("b", {}, pair[name][at] === null ? "\u2013" : percent(pair[name][at], name !== "profitable")));
  line.replaceChildren(...parts);
}

function showBin(bin) {
  const line = byId("histogram-readout"), { edges, counts, open_low, open_high } = surface.histogram;
  if (bin === null) {
    line.textContent = `Half of the variants lie between ${percent(surface.quartiles[0])} and ${percent(surface.quartiles[1])}.`;
    return;
  }
  const low = open_low && bin === 0, high = open_high && bin === counts.length - 1;
  const range = low ? `below ${percent(edges[1])}` : high ? `above ${percent(edges[bin])}` : `${percent(edges[bin])} to ${percent(edges[bin + 1])}`;
  line.replaceChildren(node("b", {}, plural(counts[bin], "variant")), " " + range);
}

function showGrid() {
  if (!surface) {
    byId("grid-body").hidden = true;
    byId("grid-note").textContent = data.surface_note || "The returns of the grid were not kept.";
    return;
  }
  byId("grid-note").textContent = `Total return of ${plural(surface.variants, "base variant")}, before stop-loss and take-profit`
    + (surface.non_finite ? `; ${plural(surface.non_finite, "non-finite value")} left out` : "");
  const marks = [{ value: surface.median, text: "median " + percent(surface.median), color: "soft" },
    ...(anyRanked ? [{ value: surface.best_value, text: "rank 1 " + percent(surface.best_value), color: "mark" }] : [])]
    .filter(mark => mark.value !== null);
  histogram.show(surface.histogram, marks);
  byId("histogram").setAttribute("aria-label", `Histogram of ${plural(surface.variants, "return")}, median ${percent(surface.median)}`);
  showBin(null);
  const figure = byId("heat").closest("figure");
  if (!surface.axes.length) { figure.hidden = true; return; }
  const xs = byId("heat-x"), ys = byId("heat-y");
  surface.axes.forEach((axis, i) => { xs.append(node("option", { value: i }, axis.name)); ys.append(node("option", { value: i }, axis.name)); });
  byId("heat-y-field").hidden = surface.axes.length < 2;
  // First the two axes with the most values that change a vote: there a peak or a plateau can be seen.
  const idle = surface.axes.map(axis => data.idle_axes.includes(axis.name));
  const widest = surface.axes.map((axis, i) => i)
    .sort((a, b) => idle[a] - idle[b] || surface.axes[b].labels.length - surface.axes[a].labels.length);
  let [x, y] = [String(widest[0]), String(widest[1] ?? "")];
  xs.value = x; ys.value = y;
  const changed = () => {
    // Taking the other axis swaps the two: a pair is always two different axes.
    if (xs.value === ys.value) { if (xs.value === x) xs.value = y; else ys.value = x; }
    [x, y] = [xs.value, ys.value];
    showHeat();
  };
  xs.addEventListener("change", changed); ys.addEventListener("change", changed);
  byId("heat-aggregate").addEventListener("change", showHeat);
  showHeat();
}

// ---- summary

function showFacts() {
  byId("facts").append(...data.sections.map(section => node("div", {}, node("h3", {}, section.title),
    node("dl", {}, ...section.facts.flatMap(fact => [node("dt", {}, fact.label), node("dd", {}, fact.value)])))));
}

function redraw() { charts.redraw(); heat.draw(); histogram.draw(); }

showHead(); showTableHead(); showTable(); showTableNotes(); showGrid(); showFacts();
byId("variant").append(...data.curves.map(curve => node("option", { value: curve.variant },
  `rank ${curve.variant + 1}, ${percent(metricOf(curve.variant, "metric.total_return_pct") ?? 0)}`)));
byId("variant").addEventListener("change", event => choose(Number(event.target.value)));
byId("log").addEventListener("change", () => showCharts(curves.get(state.chosen)));
byId("zoom-out").addEventListener("click", () => charts.whole());
choose(0);
new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
