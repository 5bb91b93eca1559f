// The table of runs, to sort, filter and open, and the charts, whose marks lead to its rows.
(async () => {
  page = JSON.parse(await unpack("data"));
  const keys = page.columns.map(([key]) => key), shown = page.columns.filter(([, , visible]) => visible);
  page.rows = page.rows.map(values => Object.fromEntries(keys.map((key, index) => [key, values[index]])));
  const written = (key, value) => (value === "inf" && key === "time_to_bottom" ? "never" : number(value));
  const texts = new Map(page.rows.map(row => [row, shown.map(([key]) => written(key, row[key])).join("\u0001").toLowerCase()]));
  const table = byId("runs"), body = table.tBodies[0], filters = byId("filters"), more = byId("more");
  const [search, verdicts, sizes] = filters.elements;
  let order = null, limit = 20, only = null; // only: which runs a click on a chart asked for

  const rank = value => (value === null ? [2, 0] : value === "inf" ? [1, 0] : value === "-inf" ? [-1, 0] : [0, value]);
  const compared = key => (a, b) => {
    const [x, y] = [a[key], b[key]];
    if (typeof x === "string" && typeof y === "string") return x < y ? -1 : x > y ? 1 : 0;
    const [p, q] = [rank(x), rank(y)];
    return p[0] - q[0] || (p[1] < q[1] ? -1 : p[1] > q[1] ? 1 : 0);
  };
  const kind = row => row.verdict ?? (row.reason.startsWith("no verdict: ") ? "no verdict" : "unfinished");
  const sign = verdict => {
    const mark = element("span", "", { className: `verdict ${verdict.replace(" ", "-")}` });
    mark.append(element("span", page.styles[verdict].sign, { ariaHidden: "true" }), ` ${verdict}`);
    return mark;
  };
  const detail = row => {
    const line = element("tr", "", { className: "detail" }), cell = element("td", "", { colSpan: shown.length });
    cell.append(element("p", `${row.verdict ?? "no verdict"}: ${row.reason.replace(/^no verdict: /, "")}`));
    for (const sentence of page.judgements[row.trial] ?? []) cell.append(element("p", sentence));
    const curves = page.curves[row.trial];
    if (curves && plotly) {
      const place = element("div", "", { className: "chart", role: "img", ariaLabel: `curves of run ${row.trial}` });
      cell.append(place);
      requestAnimationFrame(() => draw(place, runChart(curves)));
    } else if (!curves) {
      cell.append(element("p", "Its curves are in curves.csv beside this page, if it recorded any."));
    }
    const facts = element("dl", "", { className: "facts" });
    for (const [key, label] of page.columns) if (key !== "reason") facts.append(element("dt", label), element("dd", written(key, row[key])));
    cell.append(facts);
    if (byId("configuration")) cell.append(element("a", "What was set for all runs", { href: "#configuration" }));
    line.append(cell);
    return line;
  };
  const opener = (row, line) => {
    const button = element("button", `run ${row.trial}`, { type: "button", className: "open", ariaExpanded: "false" });
    button.addEventListener("click", () => {
      const open = button.ariaExpanded === "true";
      button.ariaExpanded = String(!open);
      if (open) line.nextSibling.remove();
      else line.after(detail(row));
    });
    return button;
  };
  const lineOf = row => {
    const line = element("tr");
    for (const [key] of shown) {
      const cell = element("td", "", { className: key === "reason" ? "reason" : "" });
      cell.append(key === "trial" ? opener(row, line) : key === "verdict" && row.verdict ? sign(row.verdict) : written(key, row[key]));
      line.append(cell);
    }
    return line;
  };
  const fill = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = page.rows.filter(row =>
      (!only || only.has(row)) && (!verdicts.value || kind(row) === verdicts.value) &&
      (!sizes.value || String(row.batch_size) === sizes.value) && wanted.every(word => texts.get(row).includes(word)));
    if (order) found.sort(compared(order.key));
    if (order?.descending) found.reverse();
    body.replaceChildren(...found.slice(0, limit).map(lineOf));
    const rest = found.length > limit ? `, the first ${limit} shown` : "";
    byId("count").textContent = `${found.length} of ${page.rows.length} runs${only ? ", those of the mark that was clicked" : ""}${rest}`;
    more.hidden = !only && !rest;
    more.textContent = only ? "all runs again" : `all ${found.length}`;
  };

  const heads = element("tr");
  for (const [key, label] of shown) {
    const head = element("th", "", { scope: "col" }), button = element("button", label, { type: "button" });
    button.addEventListener("click", () => {
      order = { key, descending: order?.key === key && !order.descending };
      for (const other of heads.children) other.removeAttribute("aria-sort");
      head.ariaSort = order.descending ? "descending" : "ascending";
      fill();
    });
    head.append(button);
    heads.append(head);
  }
  table.tHead.append(heads);
  for (const verdict of [...Object.keys(page.styles), "no verdict", "unfinished"])
    if (page.rows.some(row => kind(row) === verdict)) verdicts.append(element("option", verdict));
  for (const size of [...new Set(page.rows.map(row => row.batch_size))].sort((a, b) => a - b)) sizes.append(element("option", String(size)));
  filters.addEventListener("input", () => { only = null; fill(); });
  filters.addEventListener("submit", event => event.preventDefault());
  more.addEventListener("click", () => { if (only) only = null; else limit = Infinity; fill(); });
  fill();
  document.documentElement.classList.add("live");
  await new Promise(done => requestAnimationFrame(() => setTimeout(done))); // the table can be seen and used meanwhile

  await drawWhenSeen(name => (name.startsWith("curves/") ? curvesChart(Number(name.slice(7))) : page.charts[name]), point => {
    const { trial } = point.data, [size, rate] = point.customdata ?? [];
    if (trial === undefined && size === undefined) return;
    filters.reset();
    only = new Set(page.rows.filter(row => (trial === undefined ? row.batch_size === size && row.learning_rate === rate : row.trial === trial)));
    fill();
    if (only.size === 1) body.querySelector("button").click();
    byId("every-run").parentElement.open = true;
    byId("every-run").scrollIntoView();
  });
})();
