"use strict";
// Draws the charts of a page with plotly.js, which the page holds packed: each once it is scrolled to.
// Without it pictures stand where charts do.
const byId = id => document.getElementById(id);
const element = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);
const unpack = async id => {
  const text = byId(id).textContent.trim(), bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const number = value => {
  if (value === null) return "-";
  if (typeof value === "string") return value;
  if (Number.isInteger(value) && Math.abs(value) < 1e5) return String(value);
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(3)));
  return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
};

const unfold = () => location.hash.length > 1 && byId(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
unfold();
const widths = new ResizeObserver(entries => {
  for (const { target } of entries) target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth + 1);
});
for (const wide of document.querySelectorAll(".wide")) widths.observe(wide);

let page = null; // what the page shows, once it is unpacked
let plotly = null;
const drawn = new Set();

const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seenIn = color => (dark.matches && page.on_dark[color]) || color;
const shade = part => ({ ...part, color: seenIn(part.color) });
const shaded = trace => ({
  ...trace,
  ...(trace.line && { line: shade(trace.line) }),
  ...(trace.marker && { marker: shade(trace.marker) }),
  ...(trace.fillcolor && { fillcolor: seenIn(trace.fillcolor.slice(0, 7)) + trace.fillcolor.slice(7) }), // #RRGGBBAA
});
const dressed = layout => {
  const axis = { gridcolor: ink("--line"), linecolor: ink("--line"), zerolinecolor: ink("--line") };
  return {
    ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("--ink"), size: 13 },
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    ...(layout.yaxis2 && { yaxis2: { ...axis, ...layout.yaxis2 } }),
    hoverlabel: { ...layout.hoverlabel, bgcolor: ink("--paper"), font: { color: ink("--ink") } },
  };
};
const smaller = trace => (trace.marker?.size > 0 ? { ...trace, marker: { ...trace.marker, size: 0.6 * trace.marker.size } } : trace);
const narrower = layout => ({
  ...layout, margin: { ...layout.margin, l: 30, r: 5 },
  legend: { ...layout.legend, entrywidth: 0.45, entrywidthmode: "fraction", font: { size: 10 } },
});
const draw = (place, chart) => {
  drawn.add(place);
  place.chart = chart;
  let traces = chart.data.map(shaded), layout = dressed(chart.layout);
  if (place.clientWidth < 500) [traces, layout] = [traces.map(smaller), narrower(layout)];
  return plotly.react(place, traces, layout, { responsive: true, displayModeBar: false });
};

const logTicks = (low, high) => { // as log_ticks in style.py
  let ticks = [];
  for (const [atLeast, steps] of [[3, [1]], [2, [1, 2, 5]], [2, [1, 2, 3, 4, 5, 6, 7, 8, 9]]]) {
    ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) ticks.push(...steps.map(k => Number(`${k}e${power}`)));
    ticks = ticks.filter(tick => low <= tick * 1.001 && tick <= high * 1.001);
    if (ticks.length >= atLeast) break;
  }
  if (ticks.length < 2) ticks = [low, high];
  return ticks.filter((_, index) => index % Math.ceil(ticks.length / 6) === 0);
};
const logAxis = (title, low, high) => {
  const ticks = logTicks(low, high);
  return { type: "log", title: { text: title }, tickvals: ticks, ticktext: ticks.map(number) };
};

// chartOf: from its name to a chart; clicked: is given the point of a click.
const drawWhenSeen = async (chartOf, clicked = () => {}) => {
  document.head.append(element("script", await unpack("plotly")));
  plotly = window.Plotly;
  if (!plotly) return;
  document.documentElement.classList.add("charts");
  const seen = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      draw(target, chartOf(target.dataset.chart)).then(() => target.on("plotly_click", ({ points: [point] }) => clicked(point)));
    }
  }, { rootMargin: "400px" });
  for (const place of document.querySelectorAll("[data-chart]")) seen.observe(place);
  dark.addEventListener("change", () => {
    for (const place of drawn) if (place.isConnected) draw(place, place.chart);
  });
};
