// Trades on candles, with their stops, and the votes of each indicator under them.
import { ApiError } from "/assets/api.js";
import { axis, draw, timeAxis, tooltip } from "/assets/charts.js";
import { PERCENT, moment, number, percent, plain, price, plural } from "/assets/job_numbers.js";
import { say } from "/assets/page.js";

export const REASONS = { sl: "stop-loss", tp: "take-profit", signal_exit: "signal", forced_close: "end of data" };
const FINER_MS = 250, MARKS = 400, STOPS = 60;
const byId = (name) => document.getElementById(name);

// `show(variant, closer)`: candles of the whole part come with the variant, finer ones of the bars
// that one zooms in to from `closer({first, last})`.
export function candleChart() {
  let shown = null, closer = null, near = null, instance = null, kept = null;
  const time = (bar) => shown.first_close_ms + bar * shown.bar_ms;

  function show(variant, finerOf) {
    [shown, closer, near] = [variant, finerOf, null];
    paint();
    instance.off("datazoom");
    instance.on("datazoom", finer);
  }

  let timer = null;
  function finer() {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const [low, high] = range(), mine = shown;
      const seen = near ?? shown.window;
      const enough = seen.width === 1 && seen.start <= low && seen.stop >= high;
      if (enough) { paint([low, high]); return; }
      const margin = Math.ceil((high - low) / 2);
      const first = Math.max(0, low - margin), last = Math.min(shown.bars, high + margin);
      let found = shown.window;
      if (last - first < shown.bars) {
        try {
          found = await closer({ first, last });
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          say(error.message);
          return;
        }
      }
      if (mine !== shown) return;
      near = found;
      paint([low, high]);
    }, FINER_MS);
  }

  function range() {
    const option = instance.getOption().dataZoom[0];
    const bar = (ms) => (ms - shown.first_close_ms) / shown.bar_ms;
    return [Math.max(0, Math.floor(bar(option.startValue))), Math.min(shown.bars, Math.ceil(bar(option.endValue)) + 1)];
  }

  // With the keyboard: plus and minus, arrows, Escape for the whole period.
  byId("candles").addEventListener("keydown", (event) => {
    if (!instance || event.ctrlKey || event.metaKey || event.altKey) return;
    const [low, high] = range(), width = high - low, quarter = Math.max(2, Math.round(width / 4));
    const next = {
      "+": [low + quarter, high - quarter], "=": [low + quarter, high - quarter], "-": [low - width / 2, high + width / 2],
      ArrowLeft: [low - quarter, high - quarter], ArrowRight: [low + quarter, high + quarter], Escape: [0, shown.bars],
    }[event.key];
    if (!next || next[1] - next[0] < 8) return;
    event.preventDefault();
    zoomTo(next);
  });
  byId("whole").addEventListener("click", () => zoomTo([0, shown.bars]));

  function zoomTo([low, high]) {
    const first = Math.max(0, Math.round(low)), last = Math.min(shown.bars, Math.round(high));
    if (last - first < 2) return;
    instance.dispatchAction({ type: "dataZoom", startValue: time(first), endValue: time(last - 1) });
    finer();
  }


  function paint(range_ = null) {
    kept = range_;
    instance = draw(byId("candles"), `Candles of the instrument with ${plural(shown.trades_total, "trade")} and the votes of ${plural(shown.window.votes.length, "indicator")}. Plus and minus zoom, arrows move; the trades are in the table below.`, candleOptions);
    words(...(range_ ?? [0, shown.bars]));
  }

  function words(low, high) {
    const seen = shown.trades.filter((trade) => trade.exit_bar >= low && trade.entry_bar < high).length;
    const width = (near ?? shown.window).width;
    byId("candles-words").textContent = `${plural(seen, "trade")} from ${moment(time(low))} to ${moment(time(Math.max(high - 1, 0)))}`
      + (width > 1 ? `; a candle stands for ${width} bars.` : ".");
    byId("whole").hidden = low <= 0 && high >= shown.bars;
  }

  function candleOptions(colours) {
    const data = near ?? shown.window, count = data.close.length, votes = data.votes;
    const [low, high] = kept ?? [0, shown.bars];
    const at = (i) => time(Math.min(data.start + i * data.width + (data.width - 1) / 2, data.stop - 1));
    const seen = shown.trades.filter((trade) => trade.exit_bar >= low && trade.entry_bar < high);
    const marked = seen.length <= MARKS ? seen : [...seen].sort((a, b) => Math.abs(b.net_pct) - Math.abs(a.net_pct)).slice(0, MARKS);
    const [floor, roof] = reach(data, marked, low, high);
    const rowHeight = 16, strip = votes.length * rowHeight;
    const half = (data.width * shown.bar_ms) / 2;
    return {
      tooltip: tooltip({ trigger: "item", formatter: (one) => tip(one, data, at) }),
      axisPointer: { link: [{ xAxisIndex: "all" }] },
      grid: [
        { left: 64, right: 12, top: 12, bottom: strip + 84 },
        { left: 64, right: 12, height: strip, bottom: 52 },
      ],
      xAxis: [
        timeAxis({ gridIndex: 0, min: time(0), max: time(shown.bars - 1) }),
        timeAxis({ gridIndex: 1, min: time(0), max: time(shown.bars - 1), axisLabel: { show: false }, axisLine: { show: false } }),
      ],
      yAxis: [
        axis({ type: "value", min: floor, max: roof, gridIndex: 0, axisLabel: { color: colours.soft, showMinLabel: false, showMaxLabel: false, formatter: plain } }),
        axis({ type: "category", gridIndex: 1, data: votes.map((one) => one.indicator_id.split(".").at(-1)), inverse: true, splitLine: { show: false }, axisLine: { show: false }, axisLabel: { color: colours.soft, fontSize: 11, width: 58, overflow: "truncate" } }),
      ],
      dataZoom: [
        { type: "inside", xAxisIndex: [0, 1], filterMode: "none", startValue: time(low), endValue: time(Math.max(high - 1, 1)), minValueSpan: shown.bar_ms * 8, zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false },
        { type: "slider", xAxisIndex: [0, 1], filterMode: "none", startValue: time(low), endValue: time(Math.max(high - 1, 1)), minValueSpan: shown.bar_ms * 8, height: 22, bottom: 8, borderColor: colours.line, fillerColor: "transparent", textStyle: { color: colours.soft }, handleStyle: { color: colours.accent, borderColor: colours.accent }, moveHandleStyle: { color: colours.accent }, dataBackground: { lineStyle: { color: colours.soft }, areaStyle: { color: colours.soft, opacity: 0.1 } }, labelFormatter: (ms) => moment(ms).slice(0, 10) },
      ],
      series: [
        { name: "price", type: "custom", xAxisIndex: 0, yAxisIndex: 0, animation: false, clip: true, renderItem: candle(half, colours),
          encode: { x: 0, y: [1, 2, 3, 4] }, data: Array.from({ length: count }, (_, i) => [at(i), data.open[i], data.high[i], data.low[i], data.close[i]]) },
        { name: "trades", type: "custom", xAxisIndex: 0, yAxisIndex: 0, animation: false, z: 5, clip: true, renderItem: trade(marked, colours),
          encode: { x: [0, 2], y: [1, 3] }, data: marked.map((one) => [one.entry_ms, one.entry_fill_price, one.exit_ms, one.exit_fill_price]) },
        { name: "votes", type: "custom", xAxisIndex: 1, yAxisIndex: 1, animation: false, clip: true, renderItem: vote(half, colours),
          encode: { x: 0, y: 1 }, data: votes.flatMap((one, row) => one.mean.flatMap((mean, i) => (mean ? [[at(i), row, mean]] : []))) },
      ],
    };
  }

  // The prices that are seen between two bars, with a little room.
  function reach(data, marked, low, high) {
    let floor = Infinity, roof = -Infinity;
    const take = (value) => { if (value !== null) { floor = Math.min(floor, value); roof = Math.max(roof, value); } };
    for (let i = 0; i < data.close.length; i += 1) {
      const bar = data.start + i * data.width;
      if (bar + data.width > low && bar < high) { take(data.low[i]); take(data.high[i]); }
    }
    for (const one of marked) {
      take(one.entry_fill_price);
      if (marked.length <= STOPS) { take(one.sl_price); take(one.tp_price); }
    }
    const room = (roof - floor || Math.abs(roof) || 1) * 0.04;
    return floor <= roof ? [floor - room, roof + room] : [undefined, undefined];
  }

  const candle = (half, colours) => (params, api) => {
    const [open, high, low, close] = [1, 2, 3, 4].map((i) => api.value(i));
    const [x, yOpen] = api.coord([api.value(0), open]), yClose = api.coord([api.value(0), close])[1];
    const yHigh = api.coord([api.value(0), high])[1], yLow = api.coord([api.value(0), low])[1];
    const width = Math.max(1, api.size([half * 2, 0])[0] * 0.7), ink = close >= open ? colours.gain : colours.loss;
    return { type: "group", children: [
      { type: "line", shape: { x1: x, x2: x, y1: yHigh, y2: yLow }, style: { stroke: ink, lineWidth: 1, opacity: 0.8 } },
      { type: "rect", shape: { x: x - width / 2, y: Math.min(yOpen, yClose), width, height: Math.max(Math.abs(yOpen - yClose), 1) }, style: { fill: ink, opacity: 0.55 } },
    ] };
  };

  // A stroke from fill to fill, arrows where it was entered; stops where there is room to read them.
  const trade = (listed, colours) => (params, api) => {
    const one = listed[params.dataIndex];
    const [x0, y0] = api.coord([api.value(0), api.value(1)]), [x1, y1] = api.coord([api.value(2), api.value(3)]);
    const up = one.direction === "long" ? 1 : -1, ink = one.net_pct > 0 ? colours.gain : colours.loss;
    const children = [
      { type: "line", shape: { x1: x0, y1: y0, x2: x1, y2: y1 }, style: { stroke: ink, lineWidth: 2 } },
      { type: "polygon", shape: { points: [[x0, y0], [x0 - 5, y0 + 9 * up], [x0 + 5, y0 + 9 * up]] }, style: { fill: colours.accent } },
      { type: "circle", shape: { cx: x1, cy: y1, r: 3.5 }, style: { fill: colours.card, stroke: ink, lineWidth: 2 } },
    ];
    if (listed.length <= STOPS) {
      for (const [level, name] of [[one.sl_price, colours.loss], [one.tp_price, colours.gain]]) {
        if (level === null) continue;
        const y = api.coord([api.value(0), level])[1];
        children.push({ type: "line", shape: { x1: x0, x2: Math.max(x1, x0 + 4), y1: y, y2: y }, style: { stroke: name, lineWidth: 1.2, lineDash: [4, 3] } });
      }
    }
    return { type: "group", children };
  };

  const vote = (half, colours) => (params, api) => {
    const [x, y] = api.coord([api.value(0), api.value(1)]), mean = api.value(2);
    const width = Math.max(1, api.size([half * 2, 0])[0] + 0.5), height = api.size([0, 1])[1] * 0.7;
    return { type: "rect", shape: { x: x - width / 2, y: y - height / 2, width, height }, style: { fill: mean > 0 ? colours.gain : colours.loss, opacity: 0.2 + 0.7 * Math.abs(mean) } };
  };

  function tip({ seriesName, value, dataIndex }, data, at) {
    if (seriesName === "trades") {
      const one = shown.trades.find((trade) => trade.entry_ms === value[0]);
      return [`${one.direction} ${moment(one.entry_ms)} to ${moment(one.exit_ms)}`, `${price(one.entry_fill_price)} to ${price(one.exit_fill_price)}`, `${percent(one.net_pct)}, ended by ${REASONS[one.exit_reason]}`].join("\n");
    }
    if (seriesName === "votes") return `${data.votes[value[1]].indicator_id}\n${moment(value[0])}\n${value[2] > 0 ? "long" : "short"}${Math.abs(value[2]) < 1 ? `, ${number(Math.abs(value[2]) * 100, 0)}${PERCENT} of these bars` : ""}`;
    return [moment(at(dataIndex)), `open ${price(value[1])}`, `high ${price(value[2])}`, `low ${price(value[3])}`, `close ${price(value[4])}`].join("\n");
  }

  return { show };
}
