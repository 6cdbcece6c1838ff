// The pictures of a grid: every number comes aggregated from the service.
import { ApiError, get } from "/assets/api.js";
import { axis, draw, tooltip } from "/assets/charts.js";
import { blank, countText, node, number, PERCENT, parameterName, percent, plural, scaleOf, tableInto, told } from "/assets/job_numbers.js";
import { say } from "/assets/page.js";

const byId = (name) => document.getElementById(name);
const LABELS = {
  total_return_pct: "return", num_trades: "trades", win_rate_pct: "win rate", profit_factor: "profit factor",
};
const UNITS = { total_return_pct: PERCENT, win_rate_pct: PERCENT, num_trades: "", profit_factor: "" };

const busy = (name) => byId(name).setAttribute("aria-busy", "true");
const idle = (name) => byId(name).removeAttribute("aria-busy");

const ALWAYS = new Set(["total_return_pct", "num_trades"]);
const RESTS_MS = 250;

export function explore(id, look, hasColumns) {
  const here = `/backtests/jobs/${id}`;
  const hasStops = "stops" in byId("job").dataset;
  const state = { map: null, plateau: null, at: null, histogram: null };
  let turn = 0, mapTurn = 0, aroundTurn = 0;
  let isMapAsked = false, isAroundAsked = false;

  const filters = () => byId("ranked-data")?.dataset.query ?? "";
  const query = (more) => [filters(), new URLSearchParams(more)].filter((part) => String(part)).join("&");
  const chosen = () => ({
    metric: byId("metric").value, aggregate: byId("aggregate").value, x: byId("across").value, y: byId("up").value,
  });
  const unit = ({ aggregate, metric }) => (aggregate === "winners" ? PERCENT : aggregate === "count" ? "" : UNITS[metric]);
  const valueText = (value) => (value === null ? "none" : number(value) + unit(state.map));

  // Taking the other axis swaps the two: a pair is always two different axes.
  const before = new Map();
  function paired(changed, other) {
    if (changed.value === other.value) other.value = before.get(changed);
    before.set(changed, changed.value).set(other, other.value);
  }

  // One answer at a time: what was asked for before the last change is forgotten. The map has
  // choices of its own, which leave the other pictures alone.
  async function all() {
    const mine = ++turn, ofMap = ++mapTurn;
    busy("pictures");
    mapAsked();
    try {
      const metric = byId("metric").value, none = byId("ranked-data")?.dataset.none === "yes";
      // What is drawn of one by one says whether there is anything to draw.
      const found = none ? null : await get(`${here}/sample?${query({ metric, best: 60, random: 240, seed: 1 })}`);
      if (mine !== turn) return;
      if (found?.variants) {
        refused("");
        parallel(found, metric);
        await Promise.all([heat(ofMap), distribution(mine), scatter(mine)]);
      } else refused(none ? "" : why(metric));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (mine === turn) refused(error.message);
    } finally {
      if (mine === turn) {
        mapAnswered();
        idle("pictures");
      }
    }
  }

  const why = (metric) => (ALWAYS.has(metric)
    ? "No base variant is left with these filters."
    : `None of the base variants has a ${LABELS[metric]}: choose another metric${filters() ? ", or clear the filters" : ""}.`);

  // Without a text nothing is refused, or the table above says why.
  function refused(text) {
    const line = byId("pictures-refused"), none = byId("ranked-data")?.dataset.none === "yes";
    line.className = text ? "notice" : "";
    line.textContent = text;
    byId("pictures").hidden = Boolean(text) || none;
    if (!byId("pictures").hidden) return;
    byId("grid-note").textContent = none ? "no variant is left" : "";
    if (!text || !filters()) return;
    const clear = node("a", "Clear the filters", "button small");
    clear.href = location.pathname;
    clear.dataset.clear = "";
    line.append(" ", clear);
  }

  // ---- heat map and plateau

  async function anotherMap() {
    if (byId("pictures").hidden || byId("pictures").hasAttribute("aria-busy")) return all();
    const mine = ++mapTurn;
    try {
      await heat(mine);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { x, y, aggregate } = state.map;
      aroundTurn += 1; // nothing takes the place of what is told here
      aroundAnswered();
      byId("across").value = x.name;
      byId("up").value = y.name;
      paired(byId("across"), byId("up"));
      byId("aggregate").value = aggregate;
      byId("plateau").textContent = `${error.message} The map is the one before.`;
    }
  }

  // The map is busy until the plateau of what was asked for last is told.
  const mapAsked = () => { isMapAsked = true; busy("map"); };
  const mapAnswered = () => { isMapAsked = false; if (!isAroundAsked) idle("map"); };
  const aroundAsked = () => { isAroundAsked = true; busy("map"); };
  const aroundAnswered = () => { isAroundAsked = false; if (!isMapAsked) idle("map"); };

  async function heat(mine) {
    mapAsked();
    try {
      await drawnMap(mine);
    } finally {
      if (mine === mapTurn) mapAnswered();
    }
  }

  async function drawnMap(mine) {
    let map;
    try {
      map = await get(`${here}/heatmap?${query(chosen())}`);
    } catch (error) {
      if (error instanceof ApiError && mine !== mapTurn) return;
      throw error;
    }
    for (const side of [map.x, map.y]) side.label = parameterName(side.name);
    if (mine !== mapTurn) return;
    clearTimeout(resting);
    Object.assign(state, { map, plateau: null, at: null });
    byId("cell-best").hidden = true;
    paintHeat();
    tables();
    await around(null);
  }

  async function around(at) {
    if (!state.map) return;
    const mine = ++aroundTurn;
    aroundAsked();
    try {
      await toldAround(at, mine);
    } finally {
      if (mine === aroundTurn) aroundAnswered();
    }
  }

  async function toldAround(at, mine) {
    const { x, y, metric, aggregate } = state.map;
    const cell = at ? { at_x: x.values[at[0]], at_y: y.values[at[1]] } : {};
    let found;
    try {
      found = await get(`${here}/plateau?${query({ metric, aggregate, x: x.name, y: y.name, ...cell, tolerance_pct: byId("tolerance").value })}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (mine !== aroundTurn) return;
      byId("plateau").textContent = error.message;
      return;
    }
    if (mine !== aroundTurn) return;
    state.plateau = found;
    state.at = [x.values.indexOf(found.x), y.values.indexOf(found.y)];
    byId("plateau").textContent = (at ? "" : "The greatest cell. ") + told([x, y].reduce((words, { name, label }) => words.replace(name, label), found.words));
    byId("cell-best").hidden = false;
    paintHeat();
  }

  function paintHeat() {
    const { map } = state, { x, y } = map;
    const cells = [];
    map.cells.forEach((row, j) => row.forEach((value, i) => cells.push([i, j, value ?? "-"])));
    const inside = state.plateau?.cells ?? [], every = Math.ceil((y.values.length * 17) / (byId("heat").clientHeight - 90));
    const scale = (colours) => scaleOf(map.cells.flat(), colours, map.aggregate);
    const what = `${[...byId("aggregate").options].find((one) => one.value === map.aggregate).textContent.trim()}, ${LABELS[map.metric]}`;
    const chart = draw(byId("heat"), `Heat map of ${what}: ${x.label} across, ${y.label} up. Arrow keys move between cells; the table below has them all.`, (colours) => ({
      tooltip: tooltip({ formatter: ({ data }) => [
        `${x.label} ${x.values[data[0]]}`, `${y.label} ${y.values[data[1]]}`,
        `${valueText(map.cells[data[1]][data[0]])}, ${plural(map.counts[data[1]][data[0]], "variant")}`].join("\n") }),
      grid: { left: 12, right: 12, top: 30, bottom: 66, containLabel: true },
      xAxis: axis({ type: "category", data: x.values.map(String), name: x.label, nameLocation: "middle", nameGap: 28, splitLine: { show: false } }),
      yAxis: axis({ type: "category", data: y.values.map(String), axisLabel: { color: colours.soft, interval: (i) => i % every === 0 }, name: y.label, nameLocation: "end", nameTextStyle: { align: "left", color: colours.soft }, splitLine: { show: false } }),
      visualMap: { ...scale(colours), orient: "horizontal", left: "center", bottom: 0, itemHeight: Math.min(220, byId("heat").clientWidth - 190), itemWidth: 10,
        textStyle: { color: colours.soft }, text: [valueText(scale(colours).max), valueText(scale(colours).min)], dimension: 2, seriesIndex: 0 },
      series: [
        { type: "heatmap", data: cells, animation: false, progressive: 20000, emphasis: { itemStyle: { borderColor: colours.ink, borderWidth: 1 } } },
        { type: "custom", silent: true, data: inside, renderItem: outline(inside, colours) },
        { type: "custom", silent: true, data: state.at ? [state.at] : [], renderItem: ring(colours) },
      ],
    }));
    chart.off("click");
    chart.on("click", ({ seriesIndex, data }) => { if (seriesIndex === 0) around([data[0], data[1]]); });
  }

  // With the keyboard: arrows move the ring, and the plateau follows when they rest.
  let resting = null;
  byId("heat")?.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step || !state.at) return;
    event.preventDefault();
    const { map } = state, [i, j] = [state.at[0] + step[0], state.at[1] + step[1]];
    if (!(map.cells[j]?.[i] !== undefined)) return;
    Object.assign(state, { at: [i, j], plateau: null });
    byId("plateau").textContent = `${map.x.label} ${map.x.values[i]}, ${map.y.label} ${map.y.values[j]}: ${valueText(map.cells[j][i])}`;
    paintHeat();
    clearTimeout(resting);
    resting = setTimeout(() => around([i, j]), RESTS_MS);
  });

  // The border of the plateau: the sides of its cells that no other cell of it shares.
  function outline(inside, colours) {
    const known = new Set(inside.map(String));
    return (params, api) => {
      const [i, j] = [api.value(0), api.value(1)], [width, height] = api.size([1, 1]), [cx, cy] = api.coord([i, j]);
      const left = cx - width / 2, right = cx + width / 2, top = cy - height / 2, bottom = cy + height / 2;
      const sides = [[i - 1, j, left, top, left, bottom], [i + 1, j, right, top, right, bottom], [i, j - 1, left, bottom, right, bottom], [i, j + 1, left, top, right, top]];
      return { type: "group", children: sides.filter(([a, b]) => !known.has(`${a},${b}`)).map(([, , x1, y1, x2, y2]) => ({
        type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colours.ink, lineWidth: 2 } })) };
    };
  }

  const ring = (colours) => (params, api) => {
    const [cx, cy] = api.coord([api.value(0), api.value(1)]), [width, height] = api.size([1, 1]);
    return { type: "rect", shape: { x: cx - width / 2 + 1, y: cy - height / 2 + 1, width: width - 2, height: height - 2 },
      style: { fill: "none", stroke: colours.accent, lineWidth: 3 } };
  };

  byId("cell-best")?.addEventListener("click", async () => {
    const { map, at } = state;
    const cell = [[map.x, at[0]], [map.y, at[1]]].map(([one, i]) => ["axis", `${one.name}:${one.values[i]}`]);
    const asked = new URLSearchParams([...new URLSearchParams(filters()), ...cell, ["metric", byId("metric").value], ["best", "1"], ["random", "0"]]);
    try {
      const found = await get(`${here}/sample?${asked}`);
      if (found.best.length) look({ flat_index: found.best[0].flat_index });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      say(error.message);
    }
  });

  // ---- distribution

  async function distribution(mine) {
    const metric = byId("metric").value, found = await get(`${here}/histogram?${query({ metric })}`);
    if (mine !== turn) return;
    state.histogram = found;
    tables();
    const text = (value) => number(value) + UNITS[metric];
    byId("histogram-words").textContent =
      `Half of the ${countText(found.variants)} variants lie between ${text(found.quartiles[0])} and ${text(found.quartiles[1])}; the median is ${text(found.median)}, the best ${text(found.greatest)}.`
      + (found.left_out ? ` ${countText(found.left_out)} are filtered out or have no value.` : "")
      + (hasStops ? " This is without stops; the ranked rows are tried with them, and may return more or less." : "");
    byId("grid-note").textContent = `${plural(found.variants, "base variant")}, before stop-loss and take-profit`;
    if (metric === "total_return_pct" && !filters()) headTiles(found);
    const middle = found.counts.map((_, i) => (found.edges[i] + found.edges[i + 1]) / 2);
    draw(byId("histogram"), `Histogram of the ${LABELS[metric]} of ${plural(found.variants, "variant")}, median ${text(found.median)}.`, (colours) => ({
      tooltip: tooltip({ trigger: "axis", formatter: ([{ dataIndex: i }]) => `${plural(found.counts[i], "variant")}\n${text(found.edges[i])} to ${text(found.edges[i + 1])}` }),
      grid: { left: 12, right: 16, top: 28, bottom: 8, containLabel: true },
      xAxis: axis({ type: "value", min: found.edges[0], max: found.edges.at(-1), splitLine: { show: false }, axisLabel: { color: colours.soft, hideOverlap: true, showMinLabel: false, showMaxLabel: false, formatter: (value) => number(value, 0) + UNITS[metric] } }),
      yAxis: axis({ type: "value", axisLabel: { color: colours.soft, formatter: (value) => countText(value) } }),
      series: [{ type: "custom", data: found.counts.map((count, i) => [middle[i], count]), encode: { x: 0, y: 1 }, renderItem: (params, api) => {
        const i = params.dataIndex, [x0, base] = api.coord([found.edges[i], 0]), [x1, top] = api.coord([found.edges[i + 1], found.counts[i]]);
        // A single variant still shows: a lonely peak is the point of the picture.
        const height = found.counts[i] ? Math.max(base - top, 2) : 0;
        const above = metric === "total_return_pct" ? middle[i] > 0 : true;
        return { type: "rect", shape: { x: x0 + 0.5, y: base - height, width: Math.max(x1 - x0 - 1, 1), height }, style: { fill: above ? colours.gain : colours.loss, opacity: 0.85 } };
      }, markLine: { symbol: "none", silent: true, label: { color: colours.ink, formatter: "median" }, lineStyle: { color: colours.ink, type: "solid", width: 1.5 }, data: [{ xAxis: found.median }] } }],
    }));
  }

  function headTiles(found) {
    const fill = (name, value, note) => {
      const tile = document.querySelector(`[data-tile="${name}"]`);
      if (!tile) return;
      tile.hidden = false;
      tile.children[1].textContent = value;
      if (note) tile.children[2].textContent = note;
    };
    fill("median", percent(found.median), plural(found.variants, "base variant") + (hasStops ? ", without stops" : ""));
    fill("winners", number(found.above_zero_pct) + PERCENT);
  }

  // ---- parallel coordinates

  function parallel(found, metric) {
    const rows = [...found.random, ...found.best], kept = [];
    found.axes.forEach((name, at) => {
      const values = [...new Set(rows.map((row) => row.values[at]))];
      if (values.length > 1) kept.push({ name, at, values });
    });
    const by = found.metrics.indexOf(metric);
    byId("parallel-words").textContent = `The ${countText(found.best.length)} best of ${plural(found.variants, "variant")} by ${LABELS[metric]}, and ${countText(found.random.length)} others drawn by chance.`;
    byId("parallel-clear").hidden = true;
    byId("parallel-clear").onclick = () => { parallel(found, metric); byId("parallel").focus(); };
    // Names stand upright where they would not fit side by side.
    const upright = byId("parallel").clientWidth / (kept.length + 1) < 105;
    const named = (name) => (upright ? parameterName(name) : parameterName(name).replace(" ", "\n"));
    const line = (row) => [...kept.map(({ at }) => row.values[at]), row.metrics[by] ?? "-"];
    const chart = draw(byId("parallel"), `Parallel coordinates: ${kept.map(({ name }) => parameterName(name)).join(", ")} and ${LABELS[metric]}; the ranked table has the best ones in rows.`, (colours) => ({
      parallelAxis: [...kept.map(({ name, values }, dim) => ({
        dim, name: named(name), ...(typeof values[0] === "string" ? { type: "category", data: values } : { type: "value", scale: true, min: "dataMin", max: "dataMax" }),
      })), { dim: kept.length, name: LABELS[metric], type: "value", scale: true }],
      parallel: {
        left: 40, right: 52, top: upright ? 150 : 58, bottom: 14,
        parallelAxisDefault: { ...axis(), nameGap: 14, nameRotate: upright ? 90 : 0, nameTextStyle: { color: colours.soft, fontSize: 11, lineHeight: 14 }, axisLabel: { color: colours.ink, backgroundColor: colours.paper, padding: [1, 3], borderRadius: 3, fontSize: 11, formatter: (value) => String(value).replace("-", "\u2212") }, areaSelectStyle: { color: colours.accent, opacity: 0.2, borderColor: colours.accent } },
      },
      series: [
        { type: "parallel", data: found.random.map(line), lineStyle: { color: colours.soft, width: 1, opacity: 0.18 }, inactiveOpacity: 0.03, activeOpacity: 0.6 },
        { type: "parallel", data: found.best.map(line), lineStyle: { color: colours.gain, width: 1.4, opacity: 0.7 }, inactiveOpacity: 0.05, activeOpacity: 1 },
      ],
    }));
    chart.off("axisareaselected");
    chart.on("axisareaselected", ({ intervals }) => { byId("parallel-clear").hidden = !intervals?.length && !byId("parallel-clear").hidden; });
  }

  // ---- ranked part against holdout

  async function scatter(mine) {
    if (byId("scatter-figure").hidden) return;
    const found = await get(`${here}/ranked?${filters()}`);
    if (mine !== turn) return;
    const rows = found.rows.filter((row) => row.holdout?.total_return_pct != null);
    const points = rows.map((row) => [row.metrics.total_return_pct, row.holdout.total_return_pct]);
    const kept = points.filter(([, later]) => later > 0).length;
    byId("scatter-words").textContent = !points.length ? "No ranked row is left." : `${countText(kept)} of ${countText(points.length)} ranked rows gained on the holdout, too.`;
    const chart = draw(byId("scatter"), `Scatter of ${points.length} ranked rows: return on the ranked part across, on the holdout up. ${kept} gained there, too.`, (colours) => ({
      tooltip: tooltip({ formatter: ({ dataIndex: i }) => `rank ${rows[i].rank}\nranked part ${percent(points[i][0])}\nholdout ${percent(points[i][1])}` }),
      grid: { left: 12, right: 16, top: 28, bottom: 30, containLabel: true },
      xAxis: axis({ type: "value", scale: true, name: "ranked part, %", nameLocation: "middle", nameGap: 26, axisLabel: { color: colours.soft, formatter: (value) => number(value, 1) } }),
      yAxis: axis({ type: "value", scale: true, name: "holdout, %", nameTextStyle: { align: "left", color: colours.soft }, axisLabel: { color: colours.soft, formatter: (value) => number(value, 1) } }),
      series: [{ type: "scatter", data: points, symbolSize: 8, itemStyle: { color: ({ data }) => (data[1] > 0 ? colours.gain : colours.loss), opacity: 0.7 },
        markLine: { symbol: "none", silent: true, label: { show: false }, lineStyle: { color: colours.soft, type: "dashed" }, data: [{ yAxis: 0 }] } }],
    }));
    chart.off("click");
    chart.on("click", ({ dataIndex }) => look({ rank: rows[dataIndex].rank }));
  }

  // ---- the same as tables

  const TABLES = {
    heat: () => {
      const { map } = state;
      if (!map) return "…";
      if (map.x.values.length * map.y.values.length > 2500) return "More than 2500 cells: narrow the axes with the filters, or ask the API for all of them.";
      return { head: [`${map.y.label} \\ ${map.x.label}`, ...map.x.values], rows: map.y.values.map((value, j) => [value, ...map.cells[j].map(valueText)]) };
    },
    histogram: () => {
      const { histogram: found } = state;
      if (!found) return "…";
      return { head: ["From", "To", "Variants"], rows: found.counts.map((count, i) => [number(found.edges[i]), number(found.edges[i + 1]), countText(count)]) };
    },
  };

  function tables() {
    for (const details of document.querySelectorAll(".as-table")) {
      const found = details.open ? TABLES[details.dataset.of]() : "", into = details.querySelector("div");
      if (typeof found === "string") { into.className = "note"; into.textContent = found; }
      else tableInto(blank(into), found);
    }
  }

  for (const details of document.querySelectorAll(".as-table")) details.addEventListener("toggle", tables);

  // ---- another choice of rows

  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target.id !== "ranked") return;
    document.dispatchEvent(new CustomEvent("rankedshown"));
    const asked = filters();
    byId("filters-note").textContent = asked ? "· on" : "";
    if (hasColumns && asked !== drawn) { drawn = asked; all(); }
  });
  let drawn = filters();

  if (!hasColumns) return;
  paired(byId("across"), byId("up"));
  byId("across").addEventListener("change", () => { paired(byId("across"), byId("up")); anotherMap(); });
  byId("up").addEventListener("change", () => { paired(byId("up"), byId("across")); anotherMap(); });
  byId("aggregate").addEventListener("change", anotherMap);
  byId("tolerance").addEventListener("change", () => around(state.at));
  byId("metric").addEventListener("change", all);
  all();
}
