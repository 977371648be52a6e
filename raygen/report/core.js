// What the page knows, what is filtered, and how it is said. The other scripts share this scope.
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
root.classList.add("js");

const column = Object.fromEntries(data.trials.columns.map((name, at) => [name, at]));
const facts = new Map(data.trials.rows.map((row) => [row[column.trial], row]));
const place = new Map(data.rank.map((trial, at) => [trial, at]));  // 0: the best
const axes = data.figures.parallel.layout.meta.axes;
const state = {
  selected: null,
  toggles: {},          // button id -> on
  brushes: new Map(),   // axis of the parallel coordinates -> [low, high] in its positions
  boxes: new Map(),     // "figure axis" -> trials in a dragged box, and where it is
  text: "",
  top: 100,             // per cent of the trials with a value, best first
  hidden: new Set(),    // trial states switched off
  sort: { key: null, down: false },  // by rank
  rescaled: new Set(),  // axes whose scale is another than they came with
  order: null,          // axes of the parallel coordinates, by number; null: all, as they came
};

// ---- words: as labels.py writes them ---------------------------------------------------------
const ABSENT = "—";
const grouped = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
const number = (value, digits = 4) => {
  if (value === null || value === undefined) return ABSENT;
  const size = Math.abs(value);
  if (size >= 1e7 || (size > 0 && size < 1e-3)) {
    const [mantissa, exponent] = value.toExponential(digits - 2).split("e");
    return `${String(Number(mantissa))}e${Number(exponent)}`;
  }
  if (size >= 10 ** (digits - 1) || Number.isInteger(value)) return grouped(value);
  return String(Number(value.toPrecision(digits)));
};
const setting = (value) => {
  if (value === null || value === undefined) return ABSENT;
  if (typeof value === "number") return number(value).replaceAll(",", "");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};
const duration = (seconds) => {
  if (seconds === null || seconds === undefined) return ABSENT;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, small, smaller] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"]]) {
    if (whole < size) continue;
    const rest = Math.floor(whole % size / small);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
  }
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
};
const settingsOf = (row) => Object.entries(data.settings)
  .filter(([name]) => row[column[name]] !== null)
  .map(([name, short]) => [short, setting(row[column[name]])]);
// A trial in lines: what it is, its value, its settings, why it ended.
const describe = (trial) => {
  const row = facts.get(trial);
  const start = trial < data.starts ? ` · ⚑ starting point ${trial + 1}` : "";
  const lines = [
    `trial ${trial} · ${data.states[row[column.state]]}${start}`,
    `${data.metric}: ${number(row[column.value])}`,
    ...settingsOf(row).map((pair) => pair.join(" = ")),
  ];
  return row[column.reason] ? [...lines, row[column.reason]] : lines;
};

// ---- filters: everything on the page shows the trials that pass all of them --------------------
let words = null;  // trial -> its row as text, made when first searched
const textOf = (trial) => {
  words ??= new Map([...facts].map(([one, row]) =>
    [one, [...row, data.states[row[column.state]]].join(" ").toLowerCase()]));
  return words.get(trial);
};
let passing = new Set(facts.keys());
const filtered = () => passing.size < facts.size;
const passes = (trial, row) => {
  if (state.hidden.has(row[column.state])) return false;
  if (state.top < 100) {
    const at = place.get(trial);
    if (at === undefined || at >= Math.max(1, Math.round(place.size * state.top / 100))) return false;
  }
  for (const box of state.boxes.values()) if (!box.trials.has(trial)) return false;
  return inBrushes(trial) && (!state.text || textOf(trial).includes(state.text));
};
const findPassing = () => {
  passing = new Set();
  for (const [trial, row] of facts) if (passes(trial, row)) passing.add(trial);
};
const refilter = () => {
  findPassing();
  if (byId("bar")) {
    byId("shown").textContent = `${grouped(passing.size)} of ${grouped(facts.size)} trials shown`;
    byId("clear-all").classList.toggle("unused", !filtered() && !state.boxes.size && !state.brushes.size);
    byId("best-share-text").textContent = state.top < 100 ? `${state.top}%` : "all";
  }
  for (const part of all("main [data-trial]:not(tr)")) {
    part.classList.toggle("filtered", !passing.has(Number(part.dataset.trial)));
  }
  showBrushed();
  showTable();
  redraw();
  keepAddress();
};
