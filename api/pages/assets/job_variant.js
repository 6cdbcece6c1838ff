// One variant in full: walked again by the service, drawn here.
import { ApiError, get, post } from "/assets/api.js";
import { axis, draw, timeAxis, tooltip } from "/assets/charts.js";
import { REASONS, candleChart } from "/assets/job_candles.js";
import { PERCENT, countText, moment, node, number, parameterName, percent, price, setting, side, told, plural } from "/assets/job_numbers.js";
import { say } from "/assets/page.js";

const byId = (name) => document.getElementById(name);
const TRIES = 5, AGAIN_MS = 1200;

export function inspect(id) {
  const here = `/backtests/jobs/${id}`;
  const candles = candleChart();
  let shown = null, before = null, place = null, turn = 0, sort = { by: "trade_id", down: false };

  const part = () => byId("part")?.value ?? "ranked";
  const query = () => {
    const { key, ...which } = place;
    return new URLSearchParams({ ...which, part: part() });
  };

  async function look(which, { jump = true } = {}) {
    place = which;
    const mine = ++turn, said = byId("variant-said");
    byId("variant-body").setAttribute("aria-busy", "true");
    byId("save").disabled = true; // what is shown is not what is chosen
    said.className = "note";
    said.textContent = "Walking it again …";
    mark();
    address();
    const asked = query();
    if (jump) byId("variant").scrollIntoView({ behavior: "smooth", block: "start" });
    let found;
    try {
      found = await patient(`${here}/variant?${asked}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (mine !== turn) return;
      said.className = "notice";
      said.textContent = error.message;
      if (shown) back();
      return;
    }
    if (mine !== turn) return;
    shown = found;
    before = { place: which, part: part(), asked };
    byId("save").disabled = false;
    byId("variant-body").removeAttribute("aria-busy");
    byId("variant-body").hidden = byId("variant-actions").hidden = false;
    tell();
    draws();
  }

  // What cannot be shown leaves the one before, and what is chosen is that one.
  function back() {
    place = before.place;
    if (byId("part")) byId("part").value = before.part;
    byId("variant-said").textContent += " Below is the one before.";
    byId("variant-body").removeAttribute("aria-busy");
    byId("save").disabled = false;
    mark();
    address();
  }

  function address() {
    const url = new URL(location.href);
    for (const name of ["rank", "flat_index"]) {
      if (place[name] === undefined) url.searchParams.delete(name);
      else url.searchParams.set(name, place[name]);
    }
    history.replaceState(null, "", url);
  }

  // The service computes a few runs at a time; whoever comes when all are taken is told to wait.
  async function patient(path) {
    for (let left = TRIES; ; left -= 1) {
      try {
        return await get(path);
      } catch (error) {
        if (error.status !== 429 || left <= 1) throw error;
        await new Promise((done) => { setTimeout(done, AGAIN_MS); });
      }
    }
  }

  const mark = () => {
    for (const row of document.querySelectorAll("#ranked tr[data-rank]")) {
      row.classList.toggle("chosen", Number(row.dataset.rank) === place?.rank);
    }
  };

  function tell() {
    const stops = shown.payload.risk_params, off = !stops.sl_enabled && !stops.tp_enabled;
    byId("variant-title").textContent = shown.rank ? `Rank ${shown.rank}` : `Base variant ${countText(shown.flat_index)}`;
    byId("variant-said").textContent = (shown.synthetic ? "SYNTHETIC DATA. " : "")
      + (part() === "holdout" ? "Over the bars that were held out" : "Over the bars that were ranked on")
      + (off ? ", without stops." : ".");
    byId("variant-parameters").replaceChildren(...Object.entries(shown.parameters).map(([name, value]) => {
      const one = node("span", `${parameterName(name)} `);
      one.append(node("b", setting(name, value)));
      return one;
    }));
    byId("variant-around").textContent = part() === "ranked" ? told(shown.around?.words ?? "") : "";
    const verdict = byId("verdict");
    if (verdict && shown.rank === 1 && part() === "ranked") verdict.textContent = told(shown.around?.words ?? "");
    tiles();
    byId("rows25").tBodies[0].replaceChildren(...shown.rows.map(({ metric, value, shown: text }) => {
      const row = node("tr"), head = node("th", metric), cell = node("td", text, "figure");
      head.scope = "row";
      cell.title = value;
      row.append(head, cell);
      return row;
    }));
    months();
    trades();
    for (const link of document.querySelectorAll("[data-export]")) {
      const asked = query();
      if (link.dataset.export.startsWith("report")) asked.delete("part");
      link.href = `/api${here}/variant/${link.dataset.export}${asked}`;
    }
  }

  function tiles() {
    const one = (label, value, note, name = "") => {
      const tile = node("div", undefined, "tile");
      tile.append(node("p", label), node("p", value, name), node("p", note));
      return tile;
    };
    const { metrics } = shown, held = shown.hold.values.at(-1);
    const later = part() === "ranked" ? shown.holdout : null;
    byId("variant-tiles").replaceChildren(
      one("Return", percent(metrics.total_return_pct), "of the cash", side(metrics.total_return_pct)),
      one("Buy and hold", held === undefined ? "\u2013" : percent((held / shown.init_cash - 1) * 100), "same bars, no costs"),
      ...(later ? [one("On the holdout", percent(later.total_return_pct), `buy and hold ${percent(later.hold_return_pct)}`, side(later.total_return_pct))] : []),
      one("Largest drawdown", number(metrics.max_drawdown_pct) + PERCENT, "below its peak"),
      one("Profit factor", metrics.profit_factor === null && metrics.num_trades ? "∞" : number(metrics.profit_factor), "wins over losses"),
      one("Win rate", metrics.win_rate_pct === null ? "\u2013" : number(metrics.win_rate_pct) + PERCENT, `of ${plural(metrics.num_trades, "trade")}`),
    );
  }

  // ---- tables

  function months() {
    const years = new Map();
    for (const { month, return_pct: value } of shown.months) {
      const [year, number_] = month.split("-");
      if (!years.has(year)) years.set(year, new Array(12).fill(undefined));
      years.get(year)[Number(number_) - 1] = value;
    }
    const names = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
    const head = node("tr");
    head.append(...["Year", ...names, "Year"].map((name, i) => { const th = node("th", i === 13 ? "All" : name, i ? "figure" : ""); th.scope = "col"; return th; }));
    byId("months").tHead.replaceChildren(head);
    const most = Math.max(...shown.months.map(({ return_pct: value }) => Math.abs(value ?? 0)), 1e-9);
    byId("months").tBodies[0].replaceChildren(...[...years].map(([year, values]) => {
      const row = node("tr"), name = node("th", year);
      name.scope = "row";
      row.append(name);
      for (const value of values) {
        // Five steps either side of zero, as classes: styles in markup are refused.
        const step = value === undefined || value === null ? "" : `${value < 0 ? "down" : "up"}-${Math.ceil(Math.min(Math.abs(value) / most, 1) * 5)}`;
        row.append(node("td", value === undefined ? "" : number(value, 1), `figure ${step}`));
      }
      const all = values.reduce((product, value) => product * (1 + (value ?? 0) / 100), 1);
      row.append(node("td", percent((all - 1) * 100), `figure ${side(all - 1)}`));
      return row;
    }));
  }

  const COLUMNS = [
    ["trade_id", "#", (trade) => trade.trade_id],
    ["direction", "Side", (trade) => trade.direction],
    ["entry_ms", "Entry", (trade) => moment(trade.entry_ms)],
    ["exit_ms", "Exit", (trade) => moment(trade.exit_ms)],
    ["entry_fill_price", "Bought or sold at", (trade) => price(trade.entry_fill_price)],
    ["exit_fill_price", "Closed at", (trade) => price(trade.exit_fill_price)],
    ["net_pnl_quote", "Net", (trade) => number(trade.net_pnl_quote)],
    ["net_pct", "Net, %", (trade) => percent(trade.net_pct)],
    ["exit_reason", "Why it ended", (trade) => REASONS[trade.exit_reason]],
  ];
  const TEXTS = new Set(["direction", "exit_reason", "entry_ms", "exit_ms"]);

  function trades() {
    const { trades: all, trades_total: total } = shown;
    byId("trades-note").textContent = total ? `${countText(total)}${all.length < total ? `, the ${countText(all.length)} with the largest results` : ""}` : "none";
    const head = node("tr");
    for (const [name, label] of COLUMNS) {
      const th = node("th", undefined, TEXTS.has(name) ? "" : "figure"), button = node("button", label + (sort.by === name ? (sort.down ? " ↓" : " ↑") : ""), "sorts");
      th.scope = "col";
      th.setAttribute("aria-sort", sort.by !== name ? "none" : sort.down ? "descending" : "ascending");
      button.type = "button";
      button.addEventListener("click", () => {
        sort = { by: name, down: sort.by === name ? !sort.down : name.startsWith("net") };
        trades();
        byId("trades").tHead.querySelectorAll("button")[COLUMNS.findIndex(([one]) => one === name)].focus();
      });
      th.append(button);
      head.append(th);
    }
    byId("trades").tHead.replaceChildren(head);
    const order = (a, b) => (a[sort.by] < b[sort.by] ? -1 : a[sort.by] > b[sort.by] ? 1 : a.trade_id - b.trade_id) * (sort.down ? -1 : 1);
    byId("trades").tBodies[0].replaceChildren(...[...all].sort(order).map((trade) => {
      const row = node("tr");
      for (const [name, , text] of COLUMNS) row.append(node("td", text(trade), (TEXTS.has(name) ? "" : "figure ") + (name.startsWith("net") ? side(trade.net_pct) : "")));
      return row;
    }));
  }

  // ---- charts

  const time = (bar) => shown.first_close_ms + bar * shown.bar_ms;
  const points = ({ bars, values }) => bars.map((bar, i) => [time(bar), values[i]]);
  const zoom = () => [{ type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false }];

  function draws() {
    const { metrics } = shown;
    draw(byId("equity"), `Equity from ${number(shown.init_cash)} to ${number(shown.equity.values.at(-1))}, ${percent(metrics.total_return_pct)}; buying and holding is the grey line. The months below have the numbers.`, (colours) => ({
      tooltip: tooltip({ trigger: "axis", formatter: (found) => [moment(found[0].value[0]), ...found.map((one) => `${one.seriesName} ${number(one.value[1])}`)].join("\n") }),
      legend: { right: 0, top: 0, textStyle: { color: colours.soft }, icon: "roundRect", itemHeight: 3 },
      grid: { left: 8, right: 16, top: 34, bottom: 8, containLabel: true },
      xAxis: timeAxis(), yAxis: axis({ type: "value", scale: true, axisLabel: { color: colours.soft, formatter: (value) => number(value, 0) } }), dataZoom: zoom(),
      series: [
        { name: "buy and hold", type: "line", data: points(shown.hold), showSymbol: false, lineStyle: { color: colours.soft, width: 1 }, itemStyle: { color: colours.soft } },
        { name: "this variant", type: "line", data: points(shown.equity), showSymbol: false, lineStyle: { color: colours.accent, width: 1.8 }, itemStyle: { color: colours.accent } },
      ],
    }));
    draw(byId("underwater"), `Drawdown over time; the largest is ${number(metrics.max_drawdown_pct)} percent.`, (colours) => ({
      tooltip: tooltip({ trigger: "axis", formatter: ([one]) => `${moment(one.value[0])}\n${number(one.value[1])}${PERCENT}` }),
      grid: { left: 8, right: 16, top: 10, bottom: 8, containLabel: true },
      xAxis: timeAxis(), yAxis: axis({ type: "value", max: 0, axisLabel: { color: colours.soft, formatter: (value) => number(value, 0) + PERCENT } }), dataZoom: zoom(),
      series: [{ type: "line", data: points(shown.drawdown_pct), showSymbol: false, lineStyle: { color: colours.loss, width: 1.2 }, itemStyle: { color: colours.loss }, areaStyle: { color: colours.loss, opacity: 0.16 } }],
    }));
    const { asked } = before;
    candles.show(shown, (bars) => patient(`${here}/variant/window?${asked}&${new URLSearchParams(bars)}`));
  }

  // ---- keep it

  byId("save").addEventListener("click", async () => {
    const button = byId("save"), mine = turn;
    button.disabled = true;
    try {
      const { rank, flat_index } = shown;
      const made = await post("/strategies/from-variant", { job_id: id, ...(rank ? { rank } : { flat_index }) });
      location.assign(`/strategies/${made.strategy_id}`);
    } catch (error) {
      if (mine === turn) button.disabled = false;
      if (!(error instanceof ApiError)) throw error;
      say(error.message);
    }
  });

  byId("part")?.addEventListener("change", () => look(place, { jump: false }));
  document.addEventListener("rankedshown", mark);

  const asked = new URLSearchParams(location.search);
  const first = document.querySelector("#ranked tr[data-rank]");
  const number_ = (name) => (/^[0-9]{1,15}$/.test(asked.get(name) ?? "") ? Number(asked.get(name)) : null);
  if (number_("flat_index") !== null) look({ flat_index: number_("flat_index") }, { jump: false });
  else if (number_("rank")) look({ rank: number_("rank") }, { jump: false });
  else if (first) look({ rank: Number(first.dataset.rank) }, { jump: false });
  return { look };
}
