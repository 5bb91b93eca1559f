// The curves of runs as charts: all of a batch size on their way down, and one run with what it saw.
const LINES = 200; // in one chart: more cover each other

const curvesChart = size => {
  const all = page.rows.filter(row => row.batch_size === size && page.curves[row.trial]?.height);
  const step = Math.max(1, all.length / LINES);
  const rows = Array.from({ length: Math.min(all.length, LINES) }, (_, k) => all[Math.floor(k * step)]);
  const points = rows.flatMap(row => page.curves[row.trial].height[1]).filter(Number.isFinite);
  const times = rows.flatMap(row => page.epochs[page.curves[row.trial].height[0]]).filter(time => time > 0);
  const smallest = values => values.reduce((a, b) => Math.min(a, b), Infinity), largest = values => -smallest(values.map(x => -x));
  const start = largest(rows.map(row => row.first_height).filter(Number.isFinite)), low = smallest(points);
  const logarithmic = low > 0 && start / low > 10;
  const named = new Set();
  const traces = rows.map(row => {
    const style = page.styles[row.verdict] ?? { colour: ink("--soft"), dash: "solid" };
    const [at, values] = page.curves[row.trial].height;
    const showlegend = !named.has(row.verdict);
    named.add(row.verdict);
    const text = `run ${row.trial}: learning rate ${number(row.learning_rate)}, seed ${row.seed}<br><b>${row.verdict ?? "no verdict"}</b>`;
    return {
      type: "scatter", mode: "lines", x: page.epochs[at], y: values, name: row.verdict, legendgroup: row.verdict, showlegend,
      line: { color: style.colour, dash: style.dash, width: 1.2 }, opacity: 0.75, text, hoverinfo: "text", trial: row.trial,
    };
  });
  const [bottom, top] = logarithmic
    ? [low * (low / start) ** 0.05, start * (start / low) ** 0.15]
    : [low - 0.05 * (start - low), start + 0.25 * (start - low)];
  return {
    data: traces,
    layout: {
      height: page.curves_height, hovermode: "closest", margin: { l: 60, r: 20, t: 20, b: 50 }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      xaxis: logAxis("time trained (epochs)", smallest(times), largest(times)),
      yaxis: logarithmic
        ? { ...logAxis("height (loss)", low, start), range: [Math.log10(bottom), Math.log10(top)] }
        : { title: { text: "height (loss)" }, range: [bottom, top] },
    },
  };
};

const runChart = curves => {
  const looks = {
    minibatch_loss: { name: "minibatch loss", mode: "markers", marker: { size: 4, color: "#808a94" } },
    height: { name: "height", mode: "lines", line: { color: "#0072B2", width: 2 } },
    val_loss: { name: "validation loss", mode: "lines+markers", line: { color: "#CC79A7", dash: "dash" }, marker: { symbol: "diamond", size: 6 } },
  };
  const trace = (key, look) => ({ type: "scatter", x: page.epochs[curves[key][0]], y: curves[key][1], ...look });
  const others = Object.keys(curves).filter(key => !(key in looks)).slice(0, 3);
  return {
    data: [
      ...Object.keys(looks).filter(key => curves[key]).map(key => trace(key, looks[key])),
      ...others.map(key => trace(key, { name: page.names[key], mode: "lines", yaxis: "y2", line: { dash: "dot", width: 1.5 } })),
    ],
    layout: {
      height: 340, margin: { l: 60, r: 60, t: 10, b: 50 }, hovermode: "x unified", legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      xaxis: { title: { text: "time trained (epochs)" } }, yaxis: { title: { text: "loss" }, rangemode: "tozero" },
      ...(others.length && { yaxis2: { overlaying: "y", side: "right", tickmode: "auto", showgrid: false, automargin: true, title: { text: "other metrics" } } }),
    },
  };
};
