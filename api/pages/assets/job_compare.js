// Two jobs over each other: equity of their best variants, and their returns.
import { ApiError, get } from "/assets/api.js";
import { axis, draw, timeAxis, tooltip } from "/assets/charts.js";
import { PERCENT, moment, number, percent, plural } from "/assets/job_numbers.js";

const byId = (name) => document.getElementById(name);
const place = byId("compare").dataset;
byId("compare").setAttribute("aria-busy", "true");
const sides = [{ id: place.a, name: "A", rows: place.aRows === "1" }, { id: place.b, name: "B", rows: place.bRows === "1" }];
const inks = (colours) => [colours.accent, colours.loss];

// What one side does not have is told, and the other one is drawn.
async function both(path, said) {
  const found = await Promise.all(sides.map(async (side) => {
    try {
      return await get(`/backtests/jobs/${side.id}/${path}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      byId(said).textContent += `${side.name}: ${error.message} `;
      return null;
    }
  }));
  return found.map((one, i) => ({ ...sides[i], found: one, i })).filter(({ found: one }) => one);
}

async function equities() {
  const shown = await both("variant?rank=1", "equities-said");
  if (!shown.length) { byId("equities").hidden = true; return; }
  const line = ({ found }) => found.equity.bars.map((bar, k) => [found.first_close_ms + bar * found.bar_ms, (found.equity.values[k] / found.init_cash - 1) * 100]);
  const told = shown.map(({ name, found }) => `${name} ${percent(found.metrics.total_return_pct)}`).join(", ");
  byId("equities-said").textContent += shown.some(({ found }) => found.synthetic) ? "SYNTHETIC DATA." : "";
  draw(byId("equities"), `Equity of the best variants in percent of their cash: ${told}.`, (colours) => ({
    tooltip: tooltip({ trigger: "axis", formatter: (found) => [moment(found[0].value[0]), ...found.map((one) => `${one.seriesName} ${percent(one.value[1])}`)].join("\n") }),
    legend: { right: 0, top: 0, textStyle: { color: colours.soft }, icon: "roundRect", itemHeight: 3 },
    grid: { left: 8, right: 16, top: 34, bottom: 8, containLabel: true },
    xAxis: timeAxis(),
    yAxis: axis({ type: "value", scale: true, axisLabel: { color: colours.soft, formatter: (value) => number(value, 0) + PERCENT } }),
    series: shown.map((one) => ({ name: one.name, type: "line", data: line(one), showSymbol: false, lineStyle: { width: 1.8, color: inks(colours)[one.i], type: one.i ? [6, 3] : "solid" }, itemStyle: { color: inks(colours)[one.i] } })),
  }));
}

// The share of variants above each edge of the bins: two grids of any size side by side.
function above({ edges, counts, variants, least, greatest }) {
  let left = variants;
  const inner = counts.slice(0, -1).map((count, k) => { left -= count; return [edges[k + 1], (100 * left) / variants]; });
  return [[Math.min(least, edges[0]), 100], ...inner, [Math.max(greatest, edges.at(-1)), 0]];
}

async function returns() {
  const shown = await both("histogram", "returns-said");
  if (!shown.length) { byId("returns-chart").hidden = true; return; }
  const told = shown.map(({ name, found }) => `${name}: median ${percent(found.median)}, ${number(found.above_zero_pct, 0)}${PERCENT} of ${plural(found.variants, "variant")} gained`).join("; ");
  byId("returns-said").textContent += `${told}.`;
  draw(byId("returns-chart"), `Distribution of the returns. ${told}.`, (colours) => ({
    tooltip: tooltip({ trigger: "axis", formatter: (found) => found.map((one) => `${one.seriesName}: ${number(one.value[1], 1)}${PERCENT} of its variants above ${percent(one.value[0])}`).join("\n") }),
    legend: { right: 0, top: 0, textStyle: { color: colours.soft }, icon: "roundRect", itemHeight: 3 },
    grid: { left: 8, right: 16, top: 34, bottom: 30, containLabel: true },
    xAxis: axis({ type: "value", scale: true, splitLine: { show: false }, name: "return, %", nameLocation: "middle", nameGap: 26, axisLabel: { color: colours.soft, formatter: (value) => number(value, 0) } }),
    yAxis: axis({ type: "value", min: 0, max: 100, axisLabel: { color: colours.soft, formatter: (value) => number(value, 0) + PERCENT } }),
    series: shown.map(({ name, found, i }) => ({ name, type: "line", showSymbol: false, lineStyle: { color: inks(colours)[i], width: 1.8, type: i ? [6, 3] : "solid" }, itemStyle: { color: inks(colours)[i] }, areaStyle: { color: inks(colours)[i], opacity: 0.08 },
      data: above(found),
      markLine: i ? undefined : { symbol: "none", silent: true, label: { show: false }, lineStyle: { color: colours.soft, type: "dashed" }, data: [{ xAxis: 0 }] } })),
  }));
}

await Promise.all([equities(), returns()]);
byId("compare").removeAttribute("aria-busy");
