// What is selected and filtered, in the address: a view can be sent, and survives a reload.
const ranges = (numbers) => {  // 1 2 3 7 -> "1-3,7"
  const parts = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([low, high]) => low === high ? low : `${low}-${high}`).join(",");
};
const numbersIn = (text) => text.split(",").flatMap((part) => {
  const [low, high = low] = part.split("-").map(Number);
  return Array.from({ length: Math.max(0, high - low + 1) || 0 }, (_, at) => low + at);
});
const place3 = (value) => Math.round(value * 1000) / 1000;
const toAddress = () => {
  const view = new URLSearchParams();
  if (state.text) view.set("text", state.text);
  if (state.top < 100) view.set("best", state.top);
  if (state.hidden.size) view.set("hide", [...state.hidden].join(","));
  if (state.order) view.set("axes", state.order.map((at) => axes[at].name).join(","));
  if (state.rescaled.size) {
    view.set("scale", [...state.rescaled].sort().map((at) => axes[at].name).join(","));
  }
  for (const [at, ends] of state.brushes) {
    view.append("axis", [axes[at].name, ...ends.map(place3)].join(":"));
  }
  for (const [key, box] of state.boxes) {
    const span = [...box.x, ...box.y].map(place3).join(":");
    view.append("box", [key, box.yKey, span, ranges(box.trials)].join(";"));
  }
  for (const [id, on] of Object.entries(state.toggles)) if (on !== usual[id]) view.append("set", `${id}:${on}`);
  const trial = state.selected === null ? "" : `trial-${state.selected}`;
  return [trial, view.toString()].filter(Boolean).join("&");
};
let usual = {};  // toggles as the page came
const keepAddress = () => {
  const hash = toAddress();
  const bare = location.pathname + location.search;
  history.replaceState({ ...history.state, theme: root.dataset.theme }, "", hash ? `#${hash}` : bare);
};
const fromAddress = () => {
  const hash = location.hash.slice(1);
  if (hash === toAddress() || (hash && !hash.startsWith("trial-") && byId(hash))) return;
  const trial = /^trial-(\d+)/.exec(hash);
  const view = new URLSearchParams(hash);
  state.text = view.get("text") ?? "";
  state.top = Math.min(100, Math.max(1, Number(view.get("best")) || 100));
  state.hidden = new Set((view.get("hide") ?? "").split(",").filter((one) => one in data.states));
  state.brushes.clear();
  state.boxes.clear();
  const names = axes.map((axis) => axis.name);
  const order = (view.get("axes") ?? "").split(",").map((name) => names.indexOf(name));
  state.order = view.get("axes") && order.every((at) => at >= 0) ? order : null;
  const scaled = new Set((view.get("scale") ?? "").split(",").map((name) => names.indexOf(name))
    .filter((at) => at >= 0 && scalable(axes[at])));
  for (const at of new Set([...scaled, ...state.rescaled])) {
    if (scaled.has(at) !== state.rescaled.has(at)) rescale(at);
  }
  for (const text of view.getAll("axis")) {
    const parts = text.split(":");
    const [low, high] = parts.splice(-2).map(Number);
    const at = names.indexOf(parts.join(":"));
    if (at >= 0 && low <= high) state.brushes.set(at, [low, high]);
  }
  for (const text of view.getAll("box")) {
    const [key, yKey, span = "", trials = ""] = text.split(";");
    const [name, xKey] = key.split(" ");
    const at = span.split(":").map(Number);
    if (!(name in data.figures) || at.length !== 4 || at.some(Number.isNaN)) continue;
    state.boxes.set(key, { name, xKey, yKey, x: at.slice(0, 2), y: at.slice(2),
      trials: new Set(numbersIn(trials)) });
  }
  for (const text of view.getAll("set")) {
    const [id, on] = text.split(":");
    if (id in usual) state.toggles[id] = on === "true";
  }
  all(".toggle-button[aria-pressed]").forEach(sayToggle);
  if (byId("filter")) {
    byId("filter").value = state.text;
    byId("best-share").value = state.top;
    for (const chip of all(".chip")) {
      chip.setAttribute("aria-pressed", String(!state.hidden.has(chip.dataset.state)));
    }
    if (view.size) byId("bar").open = true;
  }
  refilter();
  const chosen = trial ? Number(trial[1]) : null;
  if (chosen !== state.selected) select(chosen ?? state.selected);
  if (trial && rows.get(chosen)) rows.get(chosen).scrollIntoView({ block: "center" });
};
addEventListener("hashchange", fromAddress);
// Links to a section keep the view that is in the address.
for (const link of all("nav a")) {
  link.addEventListener("click", (event) => {
    if (!toAddress()) return;
    event.preventDefault();
    document.querySelector(link.getAttribute("href")).scrollIntoView();
  });
}

// ---- a page of a running study: loaded again while nobody is in the middle of something ----------
const busy = () => document.visibilityState !== "visible" || byId("lightbox").open
  || document.activeElement?.matches("input, select") || getSelection().toString() !== "";
if (data.refresh) {
  setInterval(() => {
    if (busy()) return;
    history.replaceState({ ...history.state, y: scrollY, open: byId("bar")?.open }, "");
    location.reload();
  }, 1000 * data.refresh);
}
const restore = () => {
  const before = history.state ?? {};
  if (before.theme) { root.dataset.theme = before.theme; sayScheme(); }
  if (before.open && byId("bar")) byId("bar").open = true;
  if (before.y !== undefined) {
    scrollTo({ top: before.y, behavior: "instant" });
    history.replaceState({ theme: before.theme }, "");
  }
};

// ---- contents: where the reader is ----------------------------------------------------------------
const seen = new Set();
const spy = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) seen.add(target.id); else seen.delete(target.id);
  }
  const first = all("main section").find((part) => seen.has(part.id));
  for (const link of all("nav a")) {
    if (first && link.hash === `#${first.id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-15% 0px -60%" });
all("main section").forEach((part) => spy.observe(part));
