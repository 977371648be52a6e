// Figures: painted from the CSS variables of the scheme, faded by the filters, linked by trials.
const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const roleColour = (role) => css(`c-${role.replace("state-", "")}`);
const PAPER = 700;  // pixels of width that both A4 and Letter have
let printing = false;
const narrowScreen = () => innerWidth <= 720 && !printing;
const touch = matchMedia("(pointer: coarse)").matches;

const template = () => {
  const axis = {
    gridcolor: css("line"), linecolor: css("line-strong"), zeroline: false,
    tickfont: { color: css("muted"), size: printing ? 9 : 12 }, title: { font: { color: css("muted"), size: 12 } },
  };
  return { layout: {
    paper_bgcolor: css("panel"), plot_bgcolor: css("panel"),
    font: { family: css("sans"), color: css("ink"), size: 12 }, xaxis: axis, yaxis: axis,
    legend: { font: { size: 12, color: css("muted") } },
    hoverlabel: {
      bgcolor: css("panel"), bordercolor: css("line-strong"), align: "left",
      font: { family: css("sans"), color: css("ink"), size: 12 },
    },
    newselection: { line: { color: css("brush-line"), width: 1, dash: "solid" } },
    shapedefaults: { line: { color: css("line-strong") } },
  } };
};

const paint = (trace) => {
  const { role } = trace.meta;
  if (role === "surface") return paintSurface(trace);
  const colour = roleColour(role);
  if (trace.line) trace.line.color = colour;
  if (trace.marker) trace.marker.color = colour;
  if (trace.error_x) trace.error_x.color = css("muted");
};
const paintSurface = (trace) => {
  const steps = [0, 1, 2, 3, 4].map((at) => css(`c-seq-${at}`));
  if (trace.meta.better !== "minimize") steps.reverse();
  trace.colorscale = steps.map((colour, at) => [at / 4, colour]);
  if (trace.line) trace.line.color = css("panel");
  trace.colorbar.tickfont = trace.colorbar.title.font = { color: css("muted"), size: 11 };
};

const panel = (trace) => trace.xaxis || "x";
// Points of one trial in the linked traces of a panel, in drawing order.
const pointsOf = (traces, trial) => {
  const x = [], y = [];
  for (const trace of traces) {
    trace.customdata.forEach((other, at) => {
      if (other === trial) { x.push(trace.x[at]); y.push(trace.y[at]); }
    });
  }
  return { x, y };
};

// Points of trials that the filters leave out move to a pale copy of their trace, drawn first.
const fade = (spec) => {
  if (!filtered()) return;
  const pale = [];
  for (const trace of spec.data.filter((one) => one.meta.linked)) {
    const lists = ["x", "y", "customdata", "text"].filter((key) => Array.isArray(trace[key]));
    const whiskers = trace.error_x?.array;
    const kept = {}, left = {};
    for (const key of lists) { kept[key] = []; left[key] = []; }
    const bars = [];
    let owner = null;
    trace.customdata.forEach((trial, at) => {
      owner = trial ?? owner;  // a gap belongs to the trial before it
      const target = passing.has(owner) ? kept : left;
      for (const key of lists) target[key].push(trace[key][at]);
      if (whiskers && target === kept) bars.push(whiskers[at]);
    });
    if (!left.x.length) continue;
    const copy = { ...trace, ...left, showlegend: false, hoverinfo: "skip", opacity: 1,
      meta: { role: "faded", of: trace.meta.role } };
    copy.line = { ...trace.line };
    if (trace.marker) copy.marker = { ...trace.marker, size: Math.min(6, trace.marker.size) };
    delete copy.hovertemplate;
    delete copy.error_x;
    pale.push(copy);
    Object.assign(trace, kept);
    if (whiskers) trace.error_x.array = bars;
  }
  const surfaces = spec.data.filter((one) => one.meta.role === "surface");
  spec.data = [...surfaces, ...pale, ...spec.data.filter((one) => one.meta.role !== "surface")];
};

const scaleY = (spec, log) => {
  const axis = spec.layout.yaxis;
  if (log !== (axis.type === "log")) delete axis.range;
  axis.type = log ? "log" : "linear";
  if (!log) return;
  // As in drawing.py.
  const values = spec.data.flatMap((trace) => trace.y).filter((y) => y > 0);
  const decades = Math.log10(Math.max(...minmax(values)) / Math.min(...minmax(values)));
  Object.assign(axis, { dtick: decades > 4 ? 1 : decades > 1.3 ? "D2" : "D1", tickformat: ",.3~r" });
};
// Math.max of a long list overflows the stack.
const minmax = (values) => values.reduce(([low, high], value) =>
  [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

const adjust = {
  curves(spec) { scaleY(spec, state.toggles["log-curves"]); },
  progress(spec) {
    scaleY(spec, state.toggles["log-progress"]);
    if (!state.toggles["compute-progress"]) return;
    spec.layout.xaxis.title = { text: spec.layout.meta.x_titles.compute };
    for (const trace of spec.data) if (trace.meta.compute) trace.x = trace.meta.compute;
  },
  parallel(spec) { adjustParallel(spec); },
};

// A phone: short legend entries in two columns, and room for them; panels below each other.
const narrow = (layout, names) => {
  layout.margin.l = Math.min(layout.margin.l, 52);
  layout.margin.r = 6;
  if (!layout.legend) return;
  const long = names.some((name) => name.length > 20);
  Object.assign(layout.legend,
    { entrywidth: long ? 0.95 : 0.46, entrywidthmode: "fraction", font: { size: 11 } });
  layout.height += long ? 20 * names.length : 70;
};
const stack = (layout) => {
  const numbers = Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key))
    .map((key) => Number(key.slice(5) || 1)).sort((a, b) => a - b);
  if (numbers.length < 2 || layout.xaxis.domain?.[1] > 0.99) return;  // one, or stacked already
  const each = 1 / numbers.length;
  numbers.forEach((n, at) => {
    const key = n === 1 ? "" : String(n);
    const top = 1 - at * each;
    Object.assign(layout[`xaxis${key}`], { domain: [0, 1], anchor: `y${key}`, matches: undefined });
    Object.assign(layout[`yaxis${key}`], {
      domain: [top - each * 0.68, top], anchor: `x${key}`, showticklabels: true, automargin: true,
    });
  });
  layout.height = 90 + 265 * numbers.length;
};

const drawn = new Set(), visible = new Set(), stale = new Set();
const draw = (name) => {
  const where = byId(`plot-${name}`);
  const spec = structuredClone(data.figures[name]);
  adjust[name]?.(spec);
  const linked = spec.data.filter((one) => one.meta.linked);
  if (state.selected !== null) {
    // Before fading: the selected trial stays visible outside the filters.
    for (const mark of spec.data.filter((one) => one.meta.role === "selected")) {
      const mine = linked.filter((one) => panel(one) === panel(mark));
      Object.assign(mark, pointsOf(mine, state.selected));
    }
  }
  for (const trace of linked) {
    trace.hoverinfo = "none";  // our own, with the settings of the trial
    delete trace.hovertemplate;
  }
  fade(spec);
  spec.data.forEach(paint);
  for (const shape of spec.layout.shapes || []) {
    if (shape.name === "rung") shape.line.color = css("line-strong");
  }
  if (narrowScreen()) {
    stack(spec.layout);
    narrow(spec.layout, spec.data.filter((one) => one.showlegend !== false && one.name)
      .map((one) => one.name));
    for (const trace of spec.data) if (trace.meta.role === "surface") trace.showscale = false;
  }
  drawBoxes(name, spec);
  spec.layout.template = template();
  spec.layout.uirevision = JSON.stringify(state.toggles);
  if (spec.layout.dragmode !== false) {
    spec.layout.dragmode = !linked.length || touch ? false
      : state.toggles["drag-zoom"] ? "zoom" : "select";
  }
  // Axes beside each other need their width: they are drawn smaller.
  if (printing) spec.layout.width = Math.max(PAPER, name === "parallel" ? spec.layout.width : 0);
  where.style.zoom = printing ? PAPER / spec.layout.width : "";
  stale.delete(name);
  where.style.minHeight = `${spec.layout.height}px`;
  Plotly.react(where, spec.data, spec.layout,
    { displayModeBar: false, responsive: name !== "parallel" });
  if (drawn.has(name)) return;
  drawn.add(name);
  where.on("plotly_click", (event) => {
    const trial = event.points[0].customdata;
    if (facts.has(trial)) select(trial);
  });
  where.on("plotly_hover", (event) => showHover(name, event));
  where.on("plotly_unhover", () => { byId("hover").hidden = true; });
  // Plotly may repeat the last selection when it draws again: only a new drag makes a box.
  let dragged = false;
  where.on("plotly_selecting", () => { dragged = true; });
  where.on("plotly_selected", (event) => {
    if (dragged && event?.range) boxed(name, where, event.range);
    dragged = false;
  });
  where.on("plotly_deselect", () => unbox(name));
};
// Only what is in view is drawn at once; the rest when it comes into view.
const redraw = (...names) => {
  for (const name of (names.length ? names : [...drawn]).filter((one) => drawn.has(one))) {
    if (visible.has(name)) draw(name);
    else stale.add(name);
  }
};

// ---- boxes: dragging in a chart keeps the trials inside ----------------------------------------
const boxed = (name, where, range) => {
  const [xKey, yKey] = [Object.keys(range).find((key) => key[0] === "x"),
    Object.keys(range).find((key) => key[0] === "y")];
  const axisOf = (key) => where._fullLayout[`${key[0]}axis${key.slice(1)}`];
  const [xAxis, yAxis] = [axisOf(xKey), axisOf(yKey)];
  const ends = (axis, pair) => pair.map((value) => axis.d2p(value)).sort((a, b) => a - b);
  const [left, right] = ends(xAxis, range[xKey]);
  const [top, bottom] = ends(yAxis, range[yKey]);
  const trials = new Set();
  for (const trace of where.data.filter((one) => one.meta.linked && panel(one) === xKey)) {
    trace.customdata.forEach((trial, at) => {
      if (trial === null) return;
      const x = xAxis.d2p(trace.x[at]), y = yAxis.d2p(trace.y[at]);
      if (x >= left && x <= right && y >= top && y <= bottom) trials.add(trial);
    });
  }
  const key = `${name} ${xKey}`;
  if (!trials.size) return state.boxes.delete(key) ? refilter() : redraw(name);
  // In shares of the panel, so that it stays where it is when the page changes its width.
  state.boxes.set(key, { name, xKey, yKey, trials,
    x: [left, right].map((at) => at / xAxis._length),
    y: [bottom, top].map((at) => 1 - at / yAxis._length) });
  return refilter();
};
const unbox = (name) => {
  const mine = [...state.boxes.keys()].filter((key) => key.split(" ")[0] === name);
  mine.forEach((key) => state.boxes.delete(key));
  if (mine.length) refilter();
};
const drawBoxes = (name, spec) => {
  spec.layout.selections = [];
  spec.layout.shapes ||= [];
  for (const box of [...state.boxes.values()].filter((one) => one.name === name)) {
    spec.layout.shapes.push({
      type: "rect", name: "box", xref: `${box.xKey} domain`, yref: `${box.yKey} domain`,
      x0: box.x[0], x1: box.x[1], y0: box.y[0], y1: box.y[1],
      fillcolor: css("brush"), line: { color: css("brush-line"), width: 1 },
    });
  }
};

// ---- hover --------------------------------------------------------------------------------------
const showHover = (name, event) => {
  const point = event.points.find((one) => facts.has(one.customdata));
  if (!point) return;
  const box = byId("hover");
  const lines = describe(point.customdata);
  if (name === "curves") lines.splice(2, 0, `at ${number(point.x)} kimg: ${number(point.y)}`);
  if (name === "finalists") lines.splice(2, 0, `this run: ${number(point.x)}`);
  box.replaceChildren(...lines.map((line, at) => {
    const part = document.createElement(at ? "div" : "b");
    part.textContent = line;
    return part;
  }), ...[strip(point.customdata)].filter(Boolean));
  box.hidden = false;
  const { clientX: x, clientY: y } = event.event;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, x + 14 + width > innerWidth ? x - width - 14 : x + 14)}px`;
  box.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
};

// ---- when ---------------------------------------------------------------------------------------
const places = all("[data-figure]");
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const name = entry.target.dataset.figure;
    if (entry.isIntersecting) visible.add(name); else visible.delete(name);
    if (entry.isIntersecting && (!drawn.has(name) || stale.has(name))) draw(name);
  }
}, { rootMargin: "300px" });
const watchCharts = () => {
  for (const name of ["curves", "progress"]) {
    // The figures come with log on or off as the data suggests; the button shows it.
    state.toggles[`log-${name}`] = data.figures[name].layout.yaxis.type === "log";
  }
  all(".toggle-button[aria-pressed]").forEach(sayToggle);
  usual = Object.fromEntries(all(".toggle-button[aria-pressed]")
    .map((button) => [button.id, Boolean(state.toggles[button.id])]));
  for (const one of places) {
    // The height is known before drawing, so nothing jumps.
    one.style.minHeight = `${data.figures[one.dataset.figure].layout.height}px`;
    watch.observe(one);
  }
};
const drawAll = () => places.forEach((one) => draw(one.dataset.figure));
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
const sayScheme = () => { byId("scheme").textContent = isDark() ? "Light" : "Dark"; };
systemDark.addEventListener("change", () => { sayScheme(); redraw(); });
byId("scheme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  sayScheme();
  redraw();
  keepAddress();
});
sayScheme();
let chosen;  // of the reader, while the page is printed
addEventListener("beforeprint", () => {
  chosen = root.dataset.theme;
  root.dataset.theme = "light";
  printing = true;
  drawAll();
});
addEventListener("afterprint", () => {
  printing = false;
  if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
  redraw();
});
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  const turned = (width <= 720) !== narrowScreen();
  width = innerWidth;
  redraw(...(turned ? [] : ["parallel"]));
});

const sayToggle = (button) =>
  button.setAttribute("aria-pressed", String(Boolean(state.toggles[button.id])));
for (const button of all(".toggle-button[aria-pressed]")) {
  button.addEventListener("click", () => {
    state.toggles[button.id] = !state.toggles[button.id];
    sayToggle(button);
    const figure = button.id.split("-")[1];
    if (button.id === "drag-zoom") redraw();
    else { unbox(figure); redraw(figure); }  // a box of another scale means nothing
    keepAddress();
  });
}
