// Parallel coordinates: brushes on axes, by mouse or by sliders.
// Where a trial crosses an axis; from the tables, because not every trial need be drawn.
const positionOf = (axis, row) => {
  const value = row[column[axis.kind === "objective" ? "value" : axis.name]];
  if (value === null || value === undefined) return axis.absent;
  if (axis.kind === "choice") {
    const at = axis.choices.indexOf(setting(value));
    return at < 0 ? axis.absent : axis.choices.length > 1 ? at / (axis.choices.length - 1) : 0.5;
  }
  const warp = (number) => axis.log ? Math.log(Math.max(number, axis.low * 1e-3)) : number;
  const [low, high] = [warp(axis.low), warp(axis.high)];
  const at = high === low ? 0.5 : Math.min(1, Math.max(0, (warp(value) - low) / (high - low)));
  return axis.flip ? 1 - at : at;
};
const inBrushes = (trial) => [...state.brushes].every(([at, [low, high]]) => {
  const position = positionOf(axes[at], facts.get(trial));
  return position >= low && position <= high;
});
// ---- axes in the reader's order, some hidden, some with another scale ---------------------------
const shownAxes = () => state.order ?? axes.map((_, at) => at);
const scalable = (axis) => axis.kind !== "choice" && axis.low > 0;
const rescale = (at) => {
  axes[at].log = !axes[at].log;
  if (!state.rescaled.delete(at)) state.rescaled.add(at);
};
// The points of each trial, on the axes that are shown, from left to right.
const rearrange = (trace, places) => {
  const runs = [[]];
  trace.x.forEach((axis, k) => {
    if (axis === null) { runs.push([]); return; }
    if (!places.has(axis)) return;
    const y = state.rescaled.has(axis)
      ? positionOf(axes[axis], facts.get(trace.customdata[k])) : trace.y[k];
    runs.at(-1).push([places.get(axis), y, trace.customdata[k], trace.text?.[k]]);
  });
  const gap = [null, null, null, null];
  const points = runs.filter((run) => run.length)
    .flatMap((run) => [...run.sort((a, b) => a[0] - b[0]), gap]);
  ["x", "y", "customdata", "text"].forEach((key, at) => {
    if (trace[key]) trace[key] = points.map((point) => point[at]);
  });
};
const adjustParallel = (spec) => {
  const places = new Map(shownAxes().map((axis, place) => [axis, place]));
  spec.layout.width = Math.max(byId("plot-parallel").parentElement.clientWidth
    - (narrowScreen() ? 32 : 48), places.size * 92);
  if (state.order || state.rescaled.size) {
    for (const trace of spec.data) if (trace.meta.linked) rearrange(trace, places);
    const kept = (spec.layout.annotations || []).filter((note) => places.has(note.x)
      && !(note.name === "tick" && state.rescaled.has(note.x) && note.y >= 0));
    const like = (spec.layout.annotations || []).find((note) => note.name === "tick");
    for (const at of state.rescaled) {
      for (const position of places.has(at) ? [0, 0.25, 0.5, 0.75, 1] : []) {
        kept.push({ ...structuredClone(like), x: at, y: position,
          text: wholeText(axes[at], position) });
      }
    }
    for (const note of kept) note.x = places.get(note.x);
    spec.layout.annotations = kept;
    spec.layout.shapes = (spec.layout.shapes || []).filter((shape) => places.has(shape.x0));
    for (const shape of spec.layout.shapes) shape.x0 = shape.x1 = places.get(shape.x0);
    spec.layout.xaxis.range = [-0.45, Math.max(places.size - 0.6, 0.6)];
  }
  for (const note of spec.layout.annotations || []) {
    if (note.name !== "tick") continue;
    note.font.color = css("muted");
    note.bgcolor = css("halo");
  }
  for (const shape of spec.layout.shapes || []) shape.line.color = css("line-strong");
  for (const [axis, [low, high]] of state.brushes) {
    const at = places.get(axis);
    if (at === undefined) continue;
    spec.layout.shapes.push({
      type: "rect", x0: at - 0.07, x1: at + 0.07, y0: low, y1: high,
      fillcolor: css("brush"), line: { color: css("brush-line"), width: 1 },
    });
  }
};
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
  return setting(Number(value.toPrecision(3)));
};
const setBrush = (axis, range, onlyHere = false) => {
  if (range && (range[0] > FLOOR || range[1] < 1)) state.brushes.set(axis, range);
  else state.brushes.delete(axis);
  if (onlyHere) {  // while the mouse moves; the rest of the page follows when it is let go
    findPassing();
    draw("parallel");
    showBrushed();
  } else refilter();
};
const showBrushed = () => {
  if (byId("brushed")) byId("brushed").textContent = `${passing.size} of ${facts.size} selected`;
  if (byId("clear-brushes")) byId("clear-brushes").hidden = !state.brushes.size;
  all("#sliders fieldset").forEach(syncSlider);
};
byId("clear-brushes")?.addEventListener("click", () => {
  state.brushes.clear();
  refilter();
});

const syncSlider = (field, at) => {
  const [low, high] = state.brushes.get(at) || [FLOOR, 1];
  const [from, to] = field.querySelectorAll("input");
  const texts = [low, high].map((position) => wholeText(axes[at], position));
  [from.value, to.value] = [low, high];
  from.setAttribute("aria-valuetext", texts[0]);
  to.setAttribute("aria-valuetext", texts[1]);
  field.querySelector("output").textContent = state.brushes.has(at) ? texts.join(" to ") : "all";
  const hidden = !shownAxes().includes(at);
  field.classList.toggle("filtered", hidden);
  field.querySelector("[data-act=hide]").textContent = hidden ? "show" : "hide";
  const log = field.querySelector("[data-act=log]");
  if (log) log.textContent = axes[at].log ? "linear" : "log";
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
  const buttons = [["←", "move left", () => move(at, -1)], ["→", "move right", () => move(at, 1)],
    ["hide", "hide", () => toggleAxis(at)],
    ...(scalable(axis) ? [["log", "logarithmic", () => { state.brushes.delete(at); rescale(at); }]] : [])];
  const row = document.createElement("div");
  for (const [sign, words, act] of buttons) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: sign });
    button.dataset.act = sign;
    button.setAttribute("aria-label", `${axis.label}: ${words}`);
    button.addEventListener("click", () => { act(); refilter(); redraw("parallel"); });
    row.append(button);
  }
  field.append(legend, ...ends, row);
  byId("sliders").append(field);
  syncSlider(field, at);
});
const settle = (order) => {
  const plain = order.length === axes.length && order.every((axis, place) => axis === place);
  state.order = plain ? null : order;
};
const move = (axis, by) => {
  const order = [...shownAxes()];
  const from = order.indexOf(axis), to = from + by;
  if (from < 0 || to < 0 || to >= order.length) return;
  [order[from], order[to]] = [order[to], order[from]];
  settle(order);
};
const toggleAxis = (axis) => {
  const order = shownAxes();
  if (order.includes(axis) && order.length === 1) return;  // one is left
  settle(order.includes(axis) ? order.filter((one) => one !== axis) : [...order, axis]);
};

const watchDrag = (where) => {
  let drag = null;
  let frame = 0;
  // Pointer -> axis number and position on it, from the plot area that plotly laid out.
  const locate = (event) => {
    const { l, t, w, h } = where._fullLayout._size;
    const box = where.getBoundingClientRect();
    const [x0, x1] = where._fullLayout.xaxis.range;
    const [y0, y1] = data.figures.parallel.layout.yaxis.range;
    const x = x0 + (event.clientX - box.left - l) / w * (x1 - x0);
    const y = y1 - (event.clientY - box.top - t) / h * (y1 - y0);
    const near = Math.round(x), order = shownAxes();
    const far = Math.abs(x - near) / (x1 - x0) * w > 22;
    const on = !far && near >= 0 && near < order.length;
    return { axis: order[near], y: Math.min(1, Math.max(FLOOR, y)), on };
  };
  where.addEventListener("pointerdown", (event) => {
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
    frame = requestAnimationFrame(() => setBrush(axis, [Math.min(from, to), Math.max(from, to)], true));
  });
  addEventListener("pointerup", () => {
    cancelAnimationFrame(frame);
    if (drag?.moved) refilter();
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
