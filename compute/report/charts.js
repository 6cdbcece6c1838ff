// Canvas charts without dependencies: linked time charts, a heat map, a histogram.

const FRAME = { left: 4, right: 62, top: 8, bottom: 22 };

// Charts that share one time axis: {canvas, lines: [{series, color, width, area}], text, log, marks}.
class TimeCharts {
  constructor(onHover, onZoom) {
    this.panels = []; this.market = null; this.view = [0, 1]; this.cursor = null; this.boundary = null;
    this.onHover = onHover; this.onZoom = onZoom; this.asked = false; this.listening = new Set();
  }
  show(market, panels) {
    if (this.market !== market) this.view = [0, Math.max(market.bars - 1, 1)];
    this.market = market; this.panels = panels; this.cursor = null;
    for (const panel of panels) if (!this.listening.has(panel.canvas)) this.listen(panel.canvas);
    this.redraw(); this.onHover(null);
  }
  time(bar) { return this.market.first_close_ms + bar * this.market.bar_ms; }
  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; for (const panel of this.panels) this.draw(panel); });
  }
  zoom(low, high) {
    const end = Math.max(this.market.bars - 1, 1), span = Math.min(Math.max(high - low, 8), end);
    low = Math.min(Math.max(low, 0), end - span);
    this.view = [low, low + span];
    this.onZoom(span < end); this.redraw();
  }
  whole() { this.zoom(0, this.market.bars); }
  point(bar) {
    this.cursor = bar === null ? null : Math.round(Math.min(Math.max(bar, 0), this.market.bars - 1));
    this.onHover(this.cursor); this.redraw();
  }
  listen(canvas) {
    this.listening.add(canvas);
    const bar = event => {
      const box = canvas.getBoundingClientRect(), width = box.width - FRAME.left - FRAME.right;
      return this.view[0] + (event.clientX - box.left - FRAME.left) / width * (this.view[1] - this.view[0]);
    };
    canvas.addEventListener("pointermove", event => { if (this.market) this.point(bar(event)); });
    canvas.addEventListener("pointerleave", () => { if (!this.drag) this.point(null); });
    canvas.addEventListener("pointerdown", event => {
      if (event.pointerType === "touch" || event.button !== 0) return;
      this.drag = [bar(event), event.clientX]; canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", event => {
      if (!this.drag) return;
      const [from, x] = this.drag, to = bar(event); this.drag = null;
      if (Math.abs(event.clientX - x) > 6) this.zoom(Math.min(from, to), Math.max(from, to));
      this.redraw();
    });
    canvas.addEventListener("pointercancel", () => { this.drag = null; this.redraw(); });
    canvas.addEventListener("dblclick", () => this.whole());
    canvas.addEventListener("keydown", event => this.key(event));
  }
  key(event) {
    const [low, high] = this.view, span = high - low, at = this.cursor ?? (low + high) / 2;
    const step = Math.max(1, span / (event.shiftKey ? 20 : 200));
    const move = bar => { if (bar < low || bar > high) this.zoom(low + bar - at, high + bar - at); this.point(bar); };
    const actions = {
      ArrowLeft: () => move(at - step), ArrowRight: () => move(at + step),
      "+": () => this.zoom(at - span / 4, at + span / 4), "=": () => this.zoom(at - span / 4, at + span / 4),
      "-": () => this.zoom(at - span, at + span), Escape: () => this.whole(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
    event.preventDefault(); actions[event.key]();
  }
  visible(series) {
    const from = Math.max(lastAtMost(series.bars, this.view[0]), 0);
    return [from, Math.min(lastAtMost(series.bars, this.view[1]) + 2, series.bars.length)];
  }
  draw(panel) {
    const { pen, width, height } = surfaceOf(panel.canvas), [from, to] = this.view;
    if (width === 0) return;
    const right = width - FRAME.right, bottom = height - FRAME.bottom;
    let low = Infinity, high = -Infinity;
    for (const { series } of panel.lines) {
      const [a, b] = this.visible(series);
      for (let i = a; i < b; i++) { const v = series.values[i]; if (v !== null) { if (v < low) low = v; if (v > high) high = v; } }
    }
    if (panel.zero) { high = 0; low = Math.min(low, -0.01); }
    if (!(low <= high)) { low = 0; high = 1; }
    const log = panel.log && low > 0, warp = log ? Math.log : v => v;
    const pad = ((warp(high) - warp(low)) || Math.abs(warp(high)) || 1) * 0.05;
    const base = warp(low) - pad, roof = warp(high) + (panel.zero ? 0 : pad);
    const x = bar => FRAME.left + (bar - from) / (to - from) * (right - FRAME.left);
    const y = v => bottom - (warp(v) - base) / (roof - base) * (bottom - FRAME.top);
    this.axes(pen, panel, log ? logTicks(low, high) : ticks(panel.zero ? low : base, roof, (bottom - FRAME.top) / 42), x, y, right, bottom);
    pen.save();
    pen.beginPath(); pen.rect(FRAME.left, 0, right - FRAME.left, bottom + 1); pen.clip();
    for (const line of panel.lines) this.line(pen, line, x, y);
    if (panel.marks) this.marks(pen, panel.marks, x, y);
    if (this.boundary !== null) this.edge(pen, x(this.boundary), bottom, panel === this.panels[0] ? "holdout" : "");
    if (this.drag && this.cursor !== null) {
      pen.fillStyle = color("accent"); pen.globalAlpha = 0.14;
      pen.fillRect(x(this.drag[0]), 0, x(this.cursor) - x(this.drag[0]), bottom); pen.globalAlpha = 1;
    }
    if (this.cursor !== null) {
      pen.strokeStyle = color("soft"); pen.lineWidth = 1; pen.globalAlpha = 0.7; pen.beginPath();
      pen.moveTo(Math.round(x(this.cursor)) + 0.5, 0); pen.lineTo(Math.round(x(this.cursor)) + 0.5, bottom); pen.stroke();
    }
    pen.restore();
  }
  axes(pen, panel, values, x, y, right, bottom) {
    pen.strokeStyle = color("line"); pen.fillStyle = color("soft"); pen.lineWidth = 1; pen.textAlign = "left";
    for (const value of values) {
      const at = Math.round(y(value)) + 0.5;
      if (at < 4 || at > bottom + 1) continue;
      pen.beginPath(); pen.moveTo(FRAME.left, at); pen.lineTo(right, at); pen.stroke();
      pen.fillText(panel.text(value), right + 7, at);
    }
    pen.textAlign = "center";
    const bar = at => (at - this.market.first_close_ms) / (this.market.bar_ms || 1);
    let taken = -Infinity;
    for (const tick of timeTicks(this.time(this.view[0]), this.time(this.view[1]), (right - FRAME.left) / 90)) {
      const at = x(bar(tick.at)), half = pen.measureText(tick.text).width / 2;
      if (at - half < Math.max(FRAME.left, taken + 12) || at + half > right + 8) continue;
      pen.fillText(tick.text, at, bottom + 13); taken = at + half;
    }
  }
  line(pen, line, x, y) {
    const { bars, values } = line.series, [a, b] = this.visible(line.series);
    pen.beginPath();
    let open = false;
    for (let i = a; i < b; i++) {
      if (values[i] === null) { open = false; continue; }
      if (open) pen.lineTo(x(bars[i]), y(values[i])); else pen.moveTo(x(bars[i]), y(values[i]));
      open = true;
    }
    pen.strokeStyle = color(line.color); pen.lineWidth = line.width; pen.stroke();
    if (line.area && b > a) {
      pen.lineTo(x(bars[b - 1]), y(0)); pen.lineTo(x(bars[a]), y(0)); pen.closePath();
      pen.fillStyle = color(line.color); pen.globalAlpha = 0.16; pen.fill(); pen.globalAlpha = 1;
    }
  }
  // Where the bars begin that the ranking did not see.
  edge(pen, at, bottom, text) {
    pen.strokeStyle = pen.fillStyle = color("soft"); pen.lineWidth = 1; pen.setLineDash([4, 4]);
    pen.beginPath(); pen.moveTo(at, 0); pen.lineTo(at, bottom); pen.stroke(); pen.setLineDash([]);
    pen.textAlign = "left"; pen.fillText(text, at + 6, 8);
  }
  // A trade is a stroke from fill to fill; entry arrows come when there is room to read them.
  marks(pen, trades, x, y) {
    const [from, to] = this.view, seen = [], width = x(to) - x(from);
    for (let i = 0; i < trades.entry_bar.length; i++) if (trades.exit_bar[i] >= from && trades.entry_bar[i] <= to) seen.push(i);
    const roomy = seen.length * 16 <= width, gain = color("gain"), loss = color("loss"), card = color("paper");
    pen.lineWidth = roomy ? 2 : 1.4;
    pen.globalAlpha = seen.length > 600 ? 0.55 : 0.9;
    for (const i of seen) {
      const x0 = x(trades.entry_bar[i]), y0 = y(trades.entry_price[i]), x1 = x(trades.exit_bar[i]), y1 = y(trades.exit_price[i]);
      pen.strokeStyle = pen.fillStyle = trades.net_quote[i] > 0 ? gain : loss;
      pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke();
      if (!roomy) continue;
      const up = trades.side[i] > 0 ? 1 : -1;
      pen.beginPath(); pen.moveTo(x0, y0 - up); pen.lineTo(x0 - 5, y0 + 8 * up); pen.lineTo(x0 + 5, y0 + 8 * up); pen.closePath(); pen.fill();
      pen.beginPath(); pen.arc(x1, y1, 3, 0, 7); pen.fillStyle = card; pen.fill(); pen.stroke();
    }
    pen.globalAlpha = 1;
  }
}

// {columns, rows: [label], values: row-major, best: [column, row]|null, share: bool}
class HeatMap {
  constructor(canvas, onCell) {
    this.canvas = canvas; this.onCell = onCell; this.map = null; this.cell = null;
    const find = event => {
      const box = canvas.getBoundingClientRect(), f = this.frame;
      if (!f) return null;
      const i = Math.floor((event.clientX - box.left - f.left) / f.width * this.map.columns.length);
      const j = Math.floor((event.clientY - box.top - f.top) / f.height * this.map.rows.length);
      return i >= 0 && j >= 0 && i < this.map.columns.length && j < this.map.rows.length ? [i, this.map.rows.length - 1 - j] : null;
    };
    canvas.addEventListener("pointermove", event => this.point(find(event)));
    canvas.addEventListener("pointerdown", event => this.point(find(event)));
    canvas.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") this.point(null); });
    canvas.addEventListener("keydown", event => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step || !this.map) return;
      event.preventDefault();
      const [i, j] = this.cell || this.map.best || [0, 0], limit = (v, n) => Math.min(Math.max(v, 0), n - 1);
      this.point(this.cell ? [limit(i + step[0], this.map.columns.length), limit(j + step[1], this.map.rows.length)] : [i, j]);
    });
  }
  show(map) { this.map = map; this.cell = null; this.draw(); this.onCell(null); }
  point(cell) {
    if (String(cell) === String(this.cell)) return;
    this.cell = cell; this.rings(); this.onCell(cell);
  }
  // Colours measure from zero, the same on both sides; far outliers get the end colour, or one cell would grey out all others.
  scale() {
    const values = this.map.values.filter(v => v !== null).sort((a, b) => a - b);
    const colors = (...names) => names.map(name => rgb(color("heat-" + name)));
    const all = colors("low", "below", "zero", "above", "high");
    if (this.map.share) return { low: 0, high: 100, of: v => v / 100, stops: all };
    if (!values.length) return { low: 0, high: 0, of: () => 0.5, stops: all };
    const at = part => values[Math.round(part * (values.length - 1))];
    const body = at(0.98) - at(0.02) || Math.abs(at(0.5)) || 1;
    const low = Math.max(values[0], at(0.02) - body / 2), high = Math.min(values[values.length - 1], at(0.98) + body / 2);
    const rest = { low, high, lowOpen: low > values[0], highOpen: high < values[values.length - 1] };
    if (low < 0 && high > 0) {
      const reach = Math.max(-low, high);
      return { ...rest, of: v => 0.5 + 0.5 * v / reach, stops: all };
    }
    const of = v => high > low ? (v - low) / (high - low) : 0.5;
    return { ...rest, of, stops: high <= 0 ? colors("low", "below", "zero") : colors("zero", "above", "high") };
  }
  draw() {
    const { pen, width, height } = surfaceOf(this.canvas), map = this.map;
    if (!map || width === 0) return;
    const m = map.columns.length, n = map.rows.length;
    const longest = Math.max(...map.rows.map(text => pen.measureText(text).width), 0);
    const f = this.frame = { left: Math.min(Math.max(longest + 12, 20), width * 0.3), top: 4 };
    f.width = width - f.left - 4; f.height = height - f.top - 74;
    const scale = this.scale(), gap = f.width / m > 12 && f.height / n > 12 ? 1 : 0;
    for (let j = 0; j < n; j++) for (let i = 0; i < m; i++) {
      const v = map.values[j * m + i];
      if (v === null) continue;
      const x0 = Math.round(f.left + i * f.width / m), x1 = Math.round(f.left + (i + 1) * f.width / m);
      const y0 = Math.round(f.top + (n - 1 - j) * f.height / n), y1 = Math.round(f.top + (n - j) * f.height / n);
      pen.fillStyle = blend(scale.stops, scale.of(v)); pen.fillRect(x0, y0, x1 - x0 - gap, y1 - y0 - gap);
    }
    this.labels(pen, f, m, n);
    this.legend(pen, f, height, scale);
    this.gap = gap;
    // Kept without its rings: pointing at a cell of a large map must not paint all cells again.
    this.plain ||= document.createElement("canvas");
    this.plain.width = this.canvas.width; this.plain.height = this.canvas.height;
    this.plain.getContext("2d").drawImage(this.canvas, 0, 0);
    this.rings();
  }
  rings() {
    const { map, frame: f, gap } = this, { pen, width, height } = surfaceOf(this.canvas);
    if (!map || !this.plain || width === 0) return;
    const m = map.columns.length, n = map.rows.length;
    pen.drawImage(this.plain, 0, 0, width, height);
    const ring = (cell, ink, size) => {
      const x0 = f.left + cell[0] * f.width / m, y0 = f.top + (n - 1 - cell[1]) * f.height / n;
      pen.strokeStyle = color("paper"); pen.lineWidth = size + 2;
      pen.strokeRect(x0 - 1, y0 - 1, f.width / m + 2 - gap, f.height / n + 2 - gap);
      pen.strokeStyle = ink; pen.lineWidth = size;
      pen.strokeRect(x0 - 1, y0 - 1, f.width / m + 2 - gap, f.height / n + 2 - gap);
    };
    if (map.best) ring(map.best, color("mark"), 2);
    if (this.cell) ring(this.cell, color("accent"), 2);
  }
  labels(pen, f, m, n) {
    pen.fillStyle = color("soft");
    pen.textAlign = "right";
    const every = Math.ceil(n * 18 / f.height);
    for (let j = 0; j < n; j += every) pen.fillText(this.map.rows[j], f.left - 7, f.top + (n - j - 0.5) * f.height / n);
    pen.textAlign = "center";
    const widest = Math.max(...this.map.columns.map(text => pen.measureText(text).width));
    const stride = Math.ceil(m * (widest + 10) / f.width);
    // The last one is whole where cells are narrow, if it has room beside the one before.
    for (let i = 0, end = -Infinity; i < m; i += stride) {
      const text = this.map.columns[i], half = pen.measureText(text).width / 2;
      const x = Math.min(f.left + (i + 0.5) * f.width / m, f.left + f.width + 4 - half);
      if (x - half < end + 4) continue;
      pen.fillText(text, x, f.top + f.height + 13);
      end = x + half;
    }
    pen.fillText(this.map.title, f.left + f.width / 2, f.top + f.height + 31);
  }
  legend(pen, f, height, scale) {
    const top = height - 26, steps = 120, { low, high } = scale;
    const text = v => percent(v, !this.map.share), x = v => f.left + (v - low) / (high - low || 1) * f.width;
    for (let i = 0; i < steps; i++) {
      pen.fillStyle = blend(scale.stops, scale.of(low + (i + 0.5) / steps * (high - low)));
      pen.fillRect(f.left + i * f.width / steps, top, f.width / steps + 0.7, 7);
    }
    pen.fillStyle = color("soft");
    const first = (scale.lowOpen ? "\u2264 " : "") + text(low), last = (scale.highOpen ? "\u2265 " : "") + text(high);
    pen.textAlign = "left"; pen.fillText(first, f.left, top + 18);
    pen.textAlign = "right"; pen.fillText(last, f.left + f.width, top + 18);
    const zero = x(0), room = name => pen.measureText(name).width + 26;
    if (low < 0 && high > 0 && zero - f.left > room(first) && f.left + f.width - zero > room(last)) {
      pen.textAlign = "center"; pen.fillText("0" + THIN + "%", zero, top + 18);
    }
  }
}

// {edges, counts, open_low, open_high} with marks [{value, text, color}].
class Histogram {
  constructor(canvas, onBin) {
    this.canvas = canvas; this.data = null; this.bin = null;
    this.point = bin => { if (bin !== this.bin) { this.bin = bin; this.draw(); onBin(bin); } };
    const count = () => this.data.counts.length;
    const find = event => {
      if (!this.data) return;
      const box = canvas.getBoundingClientRect(), i = Math.floor((event.clientX - box.left - 4) / (box.width - 8) * count());
      this.point(i >= 0 && i < count() ? i : null);
    };
    canvas.addEventListener("pointermove", find);
    canvas.addEventListener("pointerdown", find);
    canvas.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") this.point(null); });
    canvas.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.data) return;
      event.preventDefault();
      this.point(Math.min(Math.max((this.bin ?? Math.floor(count() / 2)) + step, 0), count() - 1));
    });
  }
  show(data, marks) { this.data = data; this.marks = marks; this.draw(); }
  draw() {
    if (!this.data) return;
    const { pen, width, height } = surfaceOf(this.canvas), { edges, counts } = this.data;
    if (width === 0) return;
    const low = edges[0], high = edges[edges.length - 1], top = 46, bottom = height - 22, most = Math.max(...counts, 1);
    const x = v => 4 + (Math.min(Math.max(v, low), high) - low) / (high - low) * (width - 8);
    const gain = color("gain"), loss = color("loss");
    for (let i = 0; i < counts.length; i++) {
      if (!counts[i]) continue;
      // A single variant still shows: a lonely peak is the point of the picture.
      const tall = Math.max(counts[i] / most * (bottom - top), 2);
      pen.fillStyle = (edges[i] + edges[i + 1]) / 2 > 0 ? gain : loss;
      pen.globalAlpha = this.bin === null || this.bin === i ? 0.85 : 0.5;
      pen.fillRect(x(edges[i]), bottom - tall, Math.max(x(edges[i + 1]) - x(edges[i]) - 1, 1), tall);
    }
    pen.globalAlpha = 1; pen.strokeStyle = color("line"); pen.fillStyle = color("soft"); pen.lineWidth = 1; pen.textAlign = "center";
    pen.beginPath(); pen.moveTo(4, bottom + 0.5); pen.lineTo(width - 4, bottom + 0.5); pen.stroke();
    for (const value of ticks(low, high, width / 90)) {
      const text = axisPercent(value), half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(Math.max(x(value), half), width - half), bottom + 13);
    }
    this.marks.forEach((mark, row) => {
      const at = Math.round(x(mark.value)) + 0.5, tall = 10 + row * 17, half = pen.measureText(mark.text).width / 2;
      pen.strokeStyle = color(mark.color); pen.lineWidth = 1.5;
      pen.beginPath(); pen.moveTo(at, tall + 9); pen.lineTo(at, bottom); pen.stroke();
      pen.fillStyle = color(mark.color);
      pen.fillText(mark.text, Math.min(Math.max(at, half + 2), width - half - 2), tall);
    });
  }
}
