// One state, one painter per chart: every change edits `state`, then repaints what shows it.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  root.classList.add("js");

  const column = Object.fromEntries(data.trials.columns.map((name, at) => [name, at]));
  const facts = new Map(data.trials.rows.map((row) => [row[column.trial], row]));
  const rows = new Map(all("#trials-table tbody tr").map((row) => [Number(row.dataset.trial), row]));
  const axes = data.figures.parallel.layout.meta.axes;
  const state = {
    selected: null,
    toggles: {},          // button id -> on
    brushes: new Map(),   // axis -> [low, high] in axis positions
    text: "",
    hidden: new Set(),    // trial states switched off
    sort: { key: "trial", down: false },
  };
  // The figures come with log on or off as the data suggests; the button shows it.
  for (const name of ["curves", "progress"]) {
    state.toggles[`log-${name}`] = data.figures[name].layout.yaxis.type === "log";
  }

  // ---- words -------------------------------------------------------------------------------
  const show = (value) => {
    if (value === null || value === undefined) return "—";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
    return Math.abs(value) >= 1000 && Math.abs(value) < 1e7
      ? value.toFixed(0) : String(Number(value.toPrecision(4)));
  };
  const settingsOf = (row) => Object.entries(data.settings)
    .filter(([name]) => row[column[name]] !== null)
    .map(([name, short]) => [short, show(row[column[name]])]);
  const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const describe = (trial) => {
    const row = facts.get(trial);
    const head = `trial ${trial} · ${data.states[row[column.state]]}`;
    const value = `${data.metric}: ${show(row[column.value])}`;
    return [head, value, ...settingsOf(row).map((pair) => pair.join(" = "))];
  };

  // ---- figures -----------------------------------------------------------------------------
  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const roleColour = (role) => css(`c-${role.replace("state-", "")}`);
  const template = () => {
    const axis = {
      gridcolor: css("line"), linecolor: css("line-strong"), zeroline: false,
      tickfont: { color: css("muted"), size: 12 }, title: { font: { color: css("muted"), size: 12 } },
    };
    return { layout: {
      paper_bgcolor: css("panel"), plot_bgcolor: css("panel"),
      font: { family: css("sans"), color: css("ink"), size: 12 }, xaxis: axis, yaxis: axis,
      legend: { font: { size: 12, color: css("muted") } },
      hoverlabel: {
        bgcolor: css("panel"), bordercolor: css("line-strong"), align: "left",
        font: { family: css("sans"), color: css("ink"), size: 12 },
      },
      shapedefaults: { line: { color: css("line-strong") } },
    } };
  };

  // Points of one trial in the linked traces, in drawing order.
  const pointsOf = (traces, trial) => {
    const x = [], y = [];
    for (const trace of traces.filter((one) => one.meta.linked)) {
      trace.customdata.forEach((other, at) => {
        if (other === trial) { x.push(trace.x[at]); y.push(trace.y[at]); }
      });
    }
    return { x, y };
  };

  const inBrushes = (y) => [...state.brushes].every(([axis, [low, high]]) =>
    y[axis] >= low && y[axis] <= high);
  // Trial -> positions on all axes, read once from the figure itself.
  const passages = new Map();
  for (const trace of data.figures.parallel.data) {
    trace.customdata.forEach((trial, at) => {
      if (trial === null) return;
      if (!passages.has(trial)) passages.set(trial, []);
      passages.get(trial)[trace.x[at]] = trace.y[at];
    });
  }
  const brushed = (trial) => !state.brushes.size
    || (passages.has(trial) && inBrushes(passages.get(trial)));

  const fadeBrushed = (traces) => {
    const faded = traces.find((trace) => trace.meta.role === "faded");
    for (const trace of traces.filter((one) => one.meta.linked && one !== faded)) {
      const kept = { x: [], y: [], customdata: [], text: [] };
      trace.customdata.forEach((trial, at) => {
        // A gap belongs to the trial before it.
        const owner = trial === null ? trace.customdata[at - 1] : trial;
        const target = brushed(owner) ? kept : faded;
        target.x.push(trace.x[at]);
        target.y.push(trace.y[at]);
        target.customdata.push(trial);
        target.text.push(trial === null ? null : trace.text[at]);
      });
      Object.assign(trace, kept);
      for (const key of ["x", "y", "customdata", "text"]) faded[key].push(null);
    }
    faded.hoverinfo = "skip";
    faded.hovertemplate = null;
  };

  const adjust = {
    curves(spec) { scaleY(spec, state.toggles["log-curves"]); },
    progress(spec) {
      scaleY(spec, state.toggles["log-progress"]);
      if (!state.toggles["compute-progress"]) return;
      spec.layout.xaxis.title = { text: spec.layout.meta.x_titles.compute };
      for (const trace of spec.data) if (trace.meta.compute) trace.x = trace.meta.compute;
    },
    parallel(spec) {
      const k = axes.length;
      spec.layout.width = Math.max(byId("plot-parallel").parentElement.clientWidth
        - (innerWidth > 720 ? 48 : 32), k * 92);
      for (const trace of spec.data.filter((one) => one.meta.linked)) {
        trace.text = trace.customdata.map((trial) =>
          trial === null ? null : describe(trial).map(safe).join("<br>"));
        trace.hovertemplate = "%{text}<extra></extra>";
      }
      fadeBrushed(spec.data);
      for (const note of spec.layout.annotations || []) {
        if (note.name !== "tick") continue;
        note.font.color = css("muted");
        note.bgcolor = css("halo");
      }
      for (const shape of spec.layout.shapes || []) shape.line.color = css("line-strong");
      for (const [axis, [low, high]] of state.brushes) {
        spec.layout.shapes.push({
          type: "rect", x0: axis - 0.07, x1: axis + 0.07, y0: low, y1: high,
          fillcolor: css("brush"), line: { color: css("brush-line"), width: 1 },
        });
      }
    },
  };

  const scaleY = (spec, log) => {
    const axis = spec.layout.yaxis;
    if (log !== (axis.type === "log")) delete axis.range;
    axis.type = log ? "log" : "linear";
    if (!log) return;
    // Plotly labels 2 to 9 with single digits; 1, 2 and 5 in full are easier to read.
    const values = spec.data.flatMap((trace) => trace.y).filter((y) => y > 0);
    const decades = Math.log10(Math.max(...values) / Math.min(...values));
    Object.assign(axis, { dtick: decades > 4 ? 1 : "D2", tickformat: ".3~g" });
  };

  const paint = (trace) => {
    const colour = roleColour(trace.meta.role);
    if (trace.line) trace.line.color = colour;
    if (trace.marker) trace.marker.color = colour;
    if (trace.error_x) trace.error_x.color = css("muted");
  };

  // A phone: short legend entries in two columns, and room for them.
  const narrow = (layout) => {
    if (!layout.legend) return;
    Object.assign(layout.legend, { entrywidth: 0.46, entrywidthmode: "fraction", font: { size: 11 } });
    layout.height += 70;
    layout.margin.l = 52;
    layout.margin.r = 6;
  };

  const drawn = new Set();
  const draw = (name) => {
    const place = byId(`plot-${name}`);
    const spec = structuredClone(data.figures[name]);
    const last = spec.data.at(-1);
    if (state.selected !== null && last.meta.role === "selected") {
      // Before brushing: the selected trial stays visible outside the brushes.
      last.pending = true;
    }
    adjust[name]?.(spec);
    if (last.pending) {
      Object.assign(last, pointsOf(spec.data, state.selected));
      delete last.pending;
    }
    spec.data.forEach(paint);
    for (const shape of spec.layout.shapes || []) {
      if (shape.name === "rung") shape.line.color = css("line-strong");
    }
    if (innerWidth <= 720) narrow(spec.layout);
    spec.layout.template = template();
    spec.layout.uirevision = JSON.stringify(state.toggles);
    Plotly.react(place, spec.data, spec.layout, { displayModeBar: false, responsive: name !== "parallel" });
    if (drawn.has(name)) return;
    drawn.add(name);
    place.on("plotly_click", (event) => {
      const trial = event.points[0].customdata;
      if (facts.has(trial)) select(trial);
    });
  };
  const redraw = (...names) => (names.length ? names : [...drawn])
    .filter((name) => drawn.has(name)).forEach(draw);

  const places = all("[data-figure]");
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      watch.unobserve(entry.target);
      if (!drawn.has(entry.target.dataset.figure)) draw(entry.target.dataset.figure);
    }
  }, { rootMargin: "400px" });
  for (const place of places) {
    // The height is known before drawing, so nothing jumps.
    place.style.minHeight = `${data.figures[place.dataset.figure].layout.height}px`;
    watch.observe(place);
  }
  const drawAll = () => places.forEach((place) => draw(place.dataset.figure));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; drawAll(); });
  addEventListener("afterprint", () => { delete root.dataset.theme; redraw(); });
  addEventListener("resize", () => redraw("parallel"));

  for (const button of all("figure .toggle-button[aria-pressed]")) {
    const key = button.id;
    const set = () => button.setAttribute("aria-pressed", String(Boolean(state.toggles[key])));
    button.addEventListener("click", () => {
      state.toggles[key] = !state.toggles[key];
      set();
      redraw(key.split("-")[1]);
    });
    set();
  }

  // ---- one selected trial drives everything ------------------------------------------------
  const select = (trial) => {
    if (state.selected !== null) rows.get(state.selected)?.classList.remove("selected");
    state.selected = facts.has(trial) && trial !== state.selected ? trial : null;
    const hash = state.selected === null ? "" : `#trial-${state.selected}`;
    history.replaceState(null, "", hash || location.pathname + location.search);
    rows.get(state.selected)?.classList.add("selected");
    showSelection();
    redraw();
  };
  const showSelection = () => {
    const bar = byId("selection");
    bar.hidden = state.selected === null;
    bar.replaceChildren();
    if (state.selected === null) return;
    const [head, value, ...settings] = describe(state.selected);
    const words = document.createElement("p");
    const strong = document.createElement("b");
    const rest = document.createElement("span");
    strong.textContent = `${head} · ${value}`;
    rest.textContent = settings.length ? ` · ${settings.join(" · ")}` : "";
    words.append(strong, rest);
    const clear = document.createElement("button");
    clear.type = "button";
    clear.textContent = "clear";
    clear.addEventListener("click", () => select(null));
    bar.append(words, clear);
  };
  const fromHash = () => {
    const found = /^#trial-(\d+)$/.exec(location.hash);
    if (found && Number(found[1]) !== state.selected) select(Number(found[1]));
  };
  addEventListener("hashchange", fromHash);

  // ---- table -------------------------------------------------------------------------------
  const body = document.querySelector("#trials-table tbody");
  const filterTable = () => {
    let shown = 0;
    for (const [trial, row] of rows) {
      const fits = !state.hidden.has(row.dataset.state) && brushed(trial)
        && row.textContent.toLowerCase().includes(state.text);
      row.hidden = !fits;
      shown += fits;
    }
    if (byId("shown")) byId("shown").textContent = `${shown} of ${rows.size} shown`;
  };
  const compare = (a, b) => {
    // Absent values go last in both directions.
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return state.sort.down ? -order : order;
  };
  const sortTable = (key) => {
    state.sort = { key, down: state.sort.key === key && !state.sort.down };
    const at = column[key];
    const order = [...rows.keys()].sort((a, b) =>
      compare(facts.get(a)[at], facts.get(b)[at]) || a - b);
    body.append(...order.map((trial) => rows.get(trial)));
    for (const button of all(".sort")) {
      const way = state.sort.down ? "descending" : "ascending";
      button.parentElement.setAttribute("aria-sort", button.dataset.key === key ? way : "none");
    }
  };
  for (const button of all(".sort")) button.addEventListener("click", () => sortTable(button.dataset.key));
  byId("filter")?.addEventListener("input", (event) => {
    state.text = event.target.value.trim().toLowerCase();
    filterTable();
  });
  for (const chip of all(".chip")) {
    chip.addEventListener("click", () => {
      const on = state.hidden.delete(chip.dataset.state);
      if (!on) state.hidden.add(chip.dataset.state);
      chip.setAttribute("aria-pressed", String(on));
      filterTable();
    });
  }
  body?.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (getSelection().toString()) return;  // somebody is copying text
    event.preventDefault();
    select(Number(row.dataset.trial));
  });

  // ---- brushing ----------------------------------------------------------------------------
  const FLOOR = -0.2;
  const wholeText = (axis, position) => {
    const at = axis.flip ? 1 - position : position;
    if (position < -0.07) return "—";
    if (axis.kind === "choice") {
      return axis.choices[Math.round(Math.min(1, Math.max(0, at)) * (axis.choices.length - 1))];
    }
    const part = Math.min(1, Math.max(0, at));
    const value = axis.log ? axis.low * (axis.high / axis.low) ** part
      : axis.low + part * (axis.high - axis.low);
    return show(Number(value.toPrecision(3)));
  };
  const setBrush = (axis, range) => {
    if (range && (range[0] > FLOOR || range[1] < 1)) state.brushes.set(axis, range);
    else state.brushes.delete(axis);
    brushesChanged();
  };
  const brushesChanged = () => {
    redraw("parallel");
    filterTable();
    countBrushed();
    all("#sliders fieldset").forEach(syncSlider);
  };
  const countBrushed = () => {
    const n = [...passages.keys()].filter(brushed).length;
    if (byId("brushed")) byId("brushed").textContent = `${n} of ${passages.size} selected`;
    if (byId("clear-brushes")) byId("clear-brushes").hidden = !state.brushes.size;
  };
  byId("clear-brushes")?.addEventListener("click", () => {
    state.brushes.clear();
    brushesChanged();
  });

  const syncSlider = (field, at) => {
    const [low, high] = state.brushes.get(at) || [FLOOR, 1];
    const [from, to] = field.querySelectorAll("input");
    const texts = [low, high].map((position) => wholeText(axes[at], position));
    [from.value, to.value] = [low, high];
    from.setAttribute("aria-valuetext", texts[0]);
    to.setAttribute("aria-valuetext", texts[1]);
    field.querySelector("output").textContent = state.brushes.has(at) ? texts.join(" to ") : "all";
  };
  const slider = (axis, word, value) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: FLOOR, max: 1, step: 0.01 });
    input.value = value;
    input.setAttribute("aria-label", `${axis.label}: ${word} end`);
    return input;
  };
  const buildSliders = () => axes.forEach((axis, at) => {
    const field = document.createElement("fieldset");
    const legend = document.createElement("legend");
    const output = document.createElement("output");
    legend.textContent = `${axis.label} `;
    legend.append(output);
    const ends = [slider(axis, "lower", FLOOR), slider(axis, "upper", 1)];
    for (const end of ends) {
      end.addEventListener("input", () => {
        const range = ends.map((one) => Number(one.value)).sort((a, b) => a - b);
        setBrush(at, range);
      });
    }
    field.append(legend, ...ends);
    byId("sliders").append(field);
    syncSlider(field, at);
  });

  const watchDrag = (place) => {
    let drag = null;
    let frame = 0;
    // Pointer -> axis number and position on it, from the plot area that plotly laid out.
    const locate = (event) => {
      const { l, t, w, h } = place._fullLayout._size;
      const box = place.getBoundingClientRect();
      const [x0, x1] = data.figures.parallel.layout.xaxis.range;
      const [y0, y1] = data.figures.parallel.layout.yaxis.range;
      const x = x0 + (event.clientX - box.left - l) / w * (x1 - x0);
      const y = y1 - (event.clientY - box.top - t) / h * (y1 - y0);
      const axis = Math.round(x);
      const far = Math.abs(x - axis) / (x1 - x0) * w > 22;
      return { axis, y: Math.min(1, Math.max(FLOOR, y)), on: !far && axis >= 0 && axis < axes.length };
    };
    place.addEventListener("pointerdown", (event) => {
      const at = locate(event);
      if (at.on && event.button === 0 && event.pointerType !== "touch") {
        drag = { axis: at.axis, from: at.y, startY: event.clientY, moved: false };
      }
    }, true);
    addEventListener("pointermove", (event) => {
      if (!drag) return;
      drag.moved ||= Math.abs(event.clientY - drag.startY) > 4;
      if (!drag.moved) return;
      event.preventDefault();
      const to = locate(event).y;
      const { axis, from } = drag;
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => setBrush(axis, [Math.min(from, to), Math.max(from, to)]));
    });
    addEventListener("pointerup", () => {
      if (drag && !drag.moved && state.brushes.has(drag.axis)) {
        const [low, high] = state.brushes.get(drag.axis);
        if (drag.from >= low && drag.from <= high) setBrush(drag.axis, null);
      }
      drag = null;
    });
    addEventListener("pointercancel", () => { drag = null; });
  };
  if (byId("plot-parallel")) {
    watchDrag(byId("plot-parallel"));
    buildSliders();
  }

  // ---- copy, download, enlarge -------------------------------------------------------------
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // an old browser, or a page that may not
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      await copy(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
  const cell = (value) => {
    const text = value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (table) => [table.columns, ...table.rows]
    .map((row) => row.map(cell).join(",")).join("\n") + "\n";
  for (const button of all("[data-download]")) {
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      const name = button.dataset.download;
      link.href = URL.createObjectURL(new Blob([csv(data[name])], { type: "text/csv" }));
      link.download = `${name}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
  const lightbox = byId("lightbox");
  for (const button of all(".grid")) {
    button.addEventListener("click", () => {
      lightbox.replaceChildren(button.querySelector("img").cloneNode());
      lightbox.showModal();
    });
  }
  lightbox.addEventListener("click", () => lightbox.close());
  byId("all-settings")?.addEventListener("change", (event) =>
    byId("compare").classList.toggle("all", event.target.checked));

  filterTable();
  countBrushed();
  fromHash();
})();
