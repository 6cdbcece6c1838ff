// Charts in the colours of the page: drawn on canvas, redrawn when the theme or the size changes.
import * as echarts from "/assets/vendor/echarts.js";
import { plain } from "/assets/job_numbers.js";

const shown = new Map();
const NAMES = [
  "paper", "card", "ink", "soft", "line", "hover", "accent", "gain", "loss",
  "heat-low", "heat-below", "heat-zero", "heat-above", "heat-high",
];

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [
    name.replace(/-(.)/g, (_, letter) => letter.toUpperCase()), style.getPropertyValue(`--${name}`).trim(),
  ]));
}

// Text on canvas, since styles inside of markup are refused by the content policy.
export const tooltip = (more = {}) => {
  const { card, ink, line } = colours();
  return {
    renderMode: "richText", backgroundColor: card, borderColor: line, confine: true,
    textStyle: { color: ink, fontSize: 13 }, ...more,
  };
};

// Numbers of an axis read like those of the page, unless a `formatter` says more.
export const axis = ({ axisLabel, ...more } = {}) => {
  const { soft, line } = colours();
  const formatter = more.type === "category" ? {} : { formatter: plain };
  return {
    axisLine: { lineStyle: { color: line } }, axisTick: { show: false },
    axisLabel: { color: soft, hideOverlap: true, ...formatter, ...axisLabel }, nameTextStyle: { color: soft },
    splitLine: { lineStyle: { color: line, opacity: 0.6 } }, ...more,
  };
};

// Times in UTC; a label says no more than tells it from its neighbours.
export const timeAxis = (more = {}) => axis({
  type: "time", splitLine: { show: false },
  axisLabel: {
    formatter: { year: "{yyyy}", month: "{MMM} {yyyy}", day: "{d} {MMM}", hour: "{HH}:{mm}", minute: "{HH}:{mm}", second: "{HH}:{mm}:{ss}", millisecond: "{HH}:{mm}:{ss}", none: "{yyyy}-{MM}-{dd}" },
  },
  ...more,
});

// `make(colours)` returns the options of ECharts; `label` says in words what is seen.
export function draw(element, label, make) {
  let one = shown.get(element);
  if (!one) {
    const chart = echarts.init(element, null, { renderer: "canvas" });
    one = { chart, resized: new ResizeObserver(() => chart.resize()) };
    one.resized.observe(element);
    shown.set(element, one);
  }
  one.make = make;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  paint(one);
  return one.chart;
}

export function forget(element) {
  const one = shown.get(element);
  if (!one) return;
  one.resized.disconnect();
  one.chart.dispose();
  shown.delete(element);
}

function paint({ chart, make }) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  chart.setOption({
    useUTC: true, animation: !still, animationDuration: 250, textStyle: { fontFamily: "system-ui, sans-serif" },
    ...make(colours()),
  }, { notMerge: true });
}

document.addEventListener("themechange", () => shown.forEach(paint));
document.addEventListener("htmx:afterSwap", () => {
  for (const element of shown.keys()) if (!element.isConnected) forget(element);
});
