"use strict";
// Brings the page to life: charts to point at, a table of runs to sort and filter, a run's curve on request.
// Without it the page is whole but for that: pictures stand where charts do, and runs.csv holds the table.
(async () => {
  const byId = id => document.getElementById(id);
  const unpack = async id => {
    const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), c => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const data = JSON.parse(await unpack("data"));
  const column = Object.fromEntries(data.columns.map(([key], index) => [key, index]));
  const get = (row, key) => row[column[key]];
  const sizes = [...new Set(data.rows.map(row => get(row, "batch_size")))].sort((a, b) => a - b);

  const number = value => {
    if (value === null) return "-";
    if (value === "inf") return "never";
    if (value === "-inf") return "-inf";
    if (typeof value === "string") return value;
    if (Number.isInteger(value) && Math.abs(value) < 1e5) return String(value);
    const size = Math.abs(value);
    if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(3)));
    return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  };
  const written = (key, value) => (value === "inf" && key !== "time_to_bottom" ? "inf" : number(value));
  const element = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);

  // --- charts -------------------------------------------------------------------------------------------------------
  let plotly = null;
  const drawn = new Set();
  const ink = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dressed = layout => {
    const axis = { gridcolor: ink("--line"), linecolor: ink("--line"), zerolinecolor: ink("--line") };
    return {
      ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("--ink"), size: 13 },
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
      ...(layout.yaxis2 ? { yaxis2: { ...axis, ...layout.yaxis2 } } : {}),
      hoverlabel: { ...layout.hoverlabel, bgcolor: ink("--paper"), font: { color: ink("--ink") } },
    };
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const onDark = Object.fromEntries(Object.values(data.styles).map(style => [style.colour, style.onDark]));
  const shaded = trace => { // colours of verdicts that are seen on a dark page
    const of = colour => (dark.matches && onDark[colour]) || colour;
    return {
      ...trace,
      ...(trace.line ? { line: { ...trace.line, color: of(trace.line.color) } } : {}),
      ...(trace.marker ? { marker: { ...trace.marker, color: of(trace.marker.color) } } : {}),
    };
  };
  const draw = (place, { data: traces, layout }) => {
    drawn.add(place);
    place.chart = { data: traces, layout };
    return plotly.react(place, traces.map(shaded), dressed(layout), { responsive: true, displayModeBar: false });
  };

  const look = verdict => data.styles[verdict] ?? { colour: ink("--soft"), dash: "solid", sign: "" };
  const LINES = 200; // in one chart: more cover each other
  const curvesChart = size => {
    const all = data.rows.filter(row => get(row, "batch_size") === size && data.curves[get(row, "trial")]?.height);
    const step = Math.max(1, all.length / LINES);
    const rows = Array.from({ length: Math.min(all.length, LINES) }, (_, k) => all[Math.floor(k * step)]);
    const starts = rows.map(row => get(row, "first_height")).filter(Number.isFinite);
    const heights = rows.flatMap(row => data.curves[get(row, "trial")].height[1]).filter(Number.isFinite);
    const start = Math.max(...starts), low = Math.min(...heights);
    const logarithmic = low > 0 && start / low > 10;
    const named = new Set();
    const traces = rows.map(row => {
      const verdict = get(row, "verdict"), style = look(verdict), [at, values] = data.curves[get(row, "trial")].height;
      const first = !named.has(verdict);
      named.add(verdict);
      const text = `run ${get(row, "trial")}: learning rate ${number(get(row, "learning_rate"))}, seed ${get(row, "seed")}<br><b>${verdict ?? "unfinished"}</b>`;
      return {
        type: "scatter", mode: "lines", x: data.epochs[at], y: values, name: verdict, legendgroup: verdict, showlegend: first,
        line: { color: style.colour, dash: style.dash, width: 1.2 }, opacity: 0.75, text, hoverinfo: "text", trial: get(row, "trial"),
      };
    });
    const range = logarithmic
      ? [Math.log10(low) - 0.05 * Math.log10(start / low), Math.log10(start) + 0.15 * Math.log10(start / low)]
      : [low - 0.05 * (start - low), start + 0.25 * (start - low)];
    return {
      data: traces,
      layout: {
        height: 380, hovermode: "closest", margin: { l: 60, r: 20, t: 20, b: 50 }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: { type: "log", dtick: 1, title: { text: "time trained (epochs)" } },
        yaxis: { type: logarithmic ? "log" : "linear", title: { text: "height (loss)" }, range, ...(logarithmic ? { dtick: start / low > 100 ? 1 : "D2" } : {}) },
      },
    };
  };
  const runChart = curves => {
    const named = key => ({ height: "height", minibatch_loss: "minibatch loss", val_loss: "validation loss" })[key] ?? data.names[key];
    const shared = ["minibatch_loss", "height", "val_loss"].filter(key => curves[key]);
    const others = Object.keys(curves).filter(key => !shared.includes(key));
    const trace = (key, more) => ({ type: "scatter", name: named(key), x: data.epochs[curves[key][0]], y: curves[key][1], ...more });
    return {
      data: [
        ...shared.map(key => trace(key, {
          minibatch_loss: { mode: "markers", marker: { size: 4, color: "#808a94" } },
          height: { mode: "lines", line: { color: "#0072B2", width: 2 } },
          val_loss: { mode: "lines+markers", line: { color: "#CC79A7", dash: "dash" }, marker: { symbol: "diamond", size: 6 } },
        }[key])),
        ...others.slice(0, 3).map(key => trace(key, { mode: "lines", yaxis: "y2", line: { dash: "dot", width: 1.5 } })),
      ],
      layout: {
        height: 340, margin: { l: 60, r: 60, t: 10, b: 50 }, hovermode: "x unified", legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: { title: { text: "time trained (epochs)" } }, yaxis: { title: { text: "loss" }, rangemode: "tozero" },
        ...(others.length ? { yaxis2: { overlaying: "y", side: "right", showgrid: false, tickmode: "auto", automargin: true, title: { text: "other metrics" } } } : {}),
      },
    };
  };

  // --- the table of runs --------------------------------------------------------------------------------------------
  const shown = data.columns.filter(([, , visible]) => visible);
  const table = byId("runs"), body = table.tBodies[0], filters = byId("filters");
  let order = null, limit = 20, only = null; // only: which runs a click on a chart asked for
  const texts = data.rows.map(row => shown.map(([key]) => written(key, get(row, key))).join("\u0001").toLowerCase());
  const rank = value => (value === null ? [2, 0] : value === "inf" ? [1, 0] : value === "-inf" ? [-1, 0] : [0, value]);
  const compared = key => (a, b) => {
    const [x, y] = [get(a[0], key), get(b[0], key)];
    if (typeof x === "string" && typeof y === "string") return x < y ? -1 : x > y ? 1 : 0;
    const [p, q] = [rank(x), rank(y)];
    return p[0] - q[0] || (p[1] < q[1] ? -1 : p[1] > q[1] ? 1 : 0);
  };
  const detail = row => {
    const cell = element("td", "", { colSpan: shown.length });
    const facts = element("dl", "", { className: "facts" });
    for (const [key, label] of data.columns) if (key !== "reason") facts.append(element("dt", label), element("dd", written(key, get(row, key))));
    cell.append(element("p", `${get(row, "verdict") ?? "no verdict"}: ${get(row, "reason")}`));
    for (const sentence of data.judgements[get(row, "trial")] ?? []) cell.append(element("p", sentence));
    const curves = data.curves[get(row, "trial")];
    if (curves && plotly) {
      const place = element("div", "", { className: "chart" });
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", `curves of run ${get(row, "trial")}`);
      cell.append(place);
      requestAnimationFrame(() => draw(place, runChart(curves)));
    } else if (!curves) {
      cell.append(element("p", "Its curves are in curves.csv beside this page, if it recorded any."));
    }
    cell.append(facts);
    const line = element("tr", "", { className: "detail" });
    line.append(cell);
    return line;
  };
  const toggle = (button, row, line) => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) line.nextSibling.remove();
    else line.after(detail(row));
  };
  const fill = () => {
    const [words, verdict, size] = [...filters.elements].map(field => field.value);
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let found = data.rows.map((row, index) => [row, index]).filter(([row, index]) =>
      (only === null || only(row)) && (!verdict || (get(row, "verdict") ?? "unfinished") === verdict) && (!size || String(get(row, "batch_size")) === size) &&
      wanted.every(word => texts[index].includes(word)));
    if (order) {
      found.sort(compared(order.key));
      if (order.descending) found.reverse();
    }
    body.replaceChildren(...found.slice(0, limit).map(([row]) => {
      const line = element("tr");
      for (const [key] of shown) {
        const value = get(row, key), cell = element("td");
        if (key === "trial") {
          const button = element("button", `run ${value}`, { type: "button", className: "more" });
          button.setAttribute("aria-expanded", "false");
          button.addEventListener("click", () => toggle(button, row, line));
          cell.append(button);
        } else if (key === "verdict" && value !== null) {
          const sign = element("span", look(value).sign + " ");
          sign.setAttribute("aria-hidden", "true");
          const mark = element("span", "", { className: `verdict ${value.replace(" ", "-")}` });
          mark.append(sign, value);
          cell.append(mark);
        } else {
          cell.textContent = written(key, value);
          if (key === "reason") cell.className = "reason";
        }
        line.append(cell);
      }
      return line;
    }));
    byId("count").textContent = `${found.length} of ${data.rows.length} runs${found.length > limit ? `, the first ${limit} shown` : ""}`;
    byId("all").hidden = found.length <= limit;
  };
  const heads = element("tr");
  for (const [key, label] of shown) {
    const head = element("th", "", { scope: "col" }), button = element("button", label, { type: "button" });
    button.addEventListener("click", () => {
      order = { key, descending: order?.key === key && !order.descending };
      for (const other of heads.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
      fill();
    });
    head.append(button);
    heads.append(head);
  }
  table.tHead.append(heads);
  const [search, verdicts, batches] = filters.elements;
  for (const verdict of [...Object.keys(data.styles), "unfinished"])
    if (data.rows.some(row => (get(row, "verdict") ?? "unfinished") === verdict)) verdicts.append(element("option", verdict));
  for (const size of sizes) batches.append(element("option", String(size)));
  filters.addEventListener("input", () => { only = null; fill(); });
  filters.addEventListener("submit", event => event.preventDefault());
  byId("all").addEventListener("click", () => { limit = Infinity; fill(); });
  const show = wanted => { // the runs of a mark that was clicked; any filter shows the others again
    filters.reset();
    [only, order] = [wanted, null];
    fill();
    if (body.rows.length === 1) body.querySelector("button").click();
    byId("every-run").scrollIntoView();
  };
  fill();
  document.documentElement.classList.add("live");
  await new Promise(done => requestAnimationFrame(() => setTimeout(done))); // the table can be seen and used meanwhile

  // --- charts, once they are scrolled to: plotly.js is large ----------------------------------------------------------
  const source = element("script", await unpack("plotly"));
  document.head.append(source);
  plotly = window.Plotly;
  if (!plotly) return;
  document.documentElement.classList.add("charts");
  const chartOf = name => (name.startsWith("curves/") ? curvesChart(Number(name.slice(7))) : data.charts[name]);
  const seen = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      draw(target, chartOf(target.dataset.chart)).then(() => {
        target.on("plotly_click", ({ points: [point] }) => {
          const { trial } = point.data, [size, rate] = point.customdata ?? [];
          if (trial !== undefined) show(row => get(row, "trial") === trial);
          else if (size !== undefined) show(row => get(row, "batch_size") === size && get(row, "learning_rate") === rate);
        });
      });
    }
  }, { rootMargin: "400px" });
  for (const place of document.querySelectorAll("[data-chart]")) seen.observe(place);
  dark.addEventListener("change", () => {
    for (const place of drawn) if (place.isConnected) draw(place, place.chart);
  });
})();
