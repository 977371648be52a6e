// What a reader does: select, copy, download, enlarge, filter.
const select = (trial) => {
  for (const row of all("#trials-table .selected")) row.classList.remove("selected");
  state.selected = facts.has(trial) && trial !== state.selected ? trial : null;
  if (state.selected !== null) {
    if (passing.has(state.selected) && !rowOf(state.selected).isConnected) showTable();
    if (body) for (const row of rowsOf(state.selected)) row.classList.add("selected");
  }
  for (const part of all("main [data-trial]:not(tr)")) {
    part.classList.toggle("picked", Number(part.dataset.trial) === state.selected);
  }
  showSelection();
  redraw();
  keepAddress();
};
// The next better (-1) or worse (1) of the trials that are shown: the way through points by keyboard.
const step = (by) => {
  const order = [...passing].sort(byRank);
  const at = order.indexOf(state.selected);
  const next = order[Math.min(order.length - 1, Math.max(0, at + by))];
  if (next !== undefined && next !== state.selected) select(next);
};
const showSelection = () => {
  const bar = byId("selection");
  bar.hidden = state.selected === null;
  bar.replaceChildren();
  if (state.selected === null) return;
  const [head, value, ...settings] = describe(state.selected);
  const text = document.createElement("p");
  text.tabIndex = 0;  // it scrolls on a phone
  const strong = document.createElement("b");
  const rest = document.createElement("span");
  strong.textContent = `${head} · ${value}`;
  rest.textContent = settings.length ? ` · ${settings.join(" · ")}` : "";
  text.append(strong, rest);
  const command = document.createElement("button");
  command.type = "button";
  command.textContent = "copy command";
  command.title = `raygen best ${data.folder} --trial ${state.selected}`;
  command.addEventListener("click", () => say(command, command.title));
  const clear = document.createElement("button");
  clear.type = "button";
  clear.textContent = "clear";
  clear.addEventListener("click", () => select(null));
  const ways = [["‹", "better trial", -1], ["›", "worse trial", 1]].map(([sign, words, by]) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: sign, title: words });
    button.setAttribute("aria-label", words);
    button.dataset.step = by;
    button.addEventListener("click", () => {
      step(by);
      bar.querySelector(`[data-step="${by}"]`)?.focus();
    });
    return button;
  });
  bar.append(...[strip(state.selected)].filter(Boolean), text, ...ways, command, clear);
};
for (const place of all("[data-figure]").map((one) => one.closest(".scroll"))) {
  place.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && event.target === place) { event.preventDefault(); step(by); }
  });
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
const say = async (button, text) => {
  const before = button.textContent;
  await copy(text);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
};
for (const button of all(".copy")) {
  const text = button.parentElement.querySelector("code");
  button.addEventListener("click", () => say(button, text.dataset.exact ?? text.textContent));
}

// ---- download: what is shown, or everything -----------------------------------------------------
const cellText = (value) => {
  const text = value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = ({ columns, rows: lines }) => [columns, ...lines]
  .map((line) => line.map(cellText).join(",")).join("\n") + "\n";
const shownOf = (table) => {
  const at = table.columns.indexOf(table === data.replicates ? "of" : "trial");
  return { columns: table.columns, rows: table.rows.filter((row) => passing.has(row[at])) };
};
const records = ({ columns, rows: lines }) => lines.map((line) =>
  Object.fromEntries(columns.map((name, at) => [name, line[at]])));
const DOWNLOADS = {
  csv: () => ["shown.csv", "text/csv", csv(shownOf(data.trials))],
  json: () => ["shown.json", "application/json", JSON.stringify({
    study: data.name, metric: data.objective, shown: passing.size, of: facts.size,
    trials: records(shownOf(data.trials)), history: records(shownOf(data.history)),
    replicates: records(shownOf(data.replicates)),
  }, null, 1)],
  trials: () => ["trials.csv", "text/csv", csv(data.trials)],
  history: () => ["history.csv", "text/csv", csv(data.history)],
  replicates: () => ["replicates.csv", "text/csv", csv(data.replicates)],
};
for (const button of all("[data-download]")) {
  button.addEventListener("click", () => {
    const [name, type, text] = DOWNLOADS[button.dataset.download]();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
byId("all-settings")?.addEventListener("change", (event) =>
  byId("compare").classList.toggle("all", event.target.checked));

// ---- the bar ------------------------------------------------------------------------------------
byId("filter")?.addEventListener("input", (event) => {
  state.text = event.target.value.trim().toLowerCase();
  refilter();
});
byId("best-share")?.addEventListener("input", (event) => {
  state.top = Number(event.target.value);
  refilter();
});
for (const chip of all(".chip")) {
  chip.addEventListener("click", () => {
    const on = state.hidden.delete(chip.dataset.state);
    if (!on) state.hidden.add(chip.dataset.state);
    chip.setAttribute("aria-pressed", String(on));
    refilter();
  });
}
byId("clear-all")?.addEventListener("click", () => {
  Object.assign(state, { text: "", top: 100 });
  for (const filters of [state.hidden, state.boxes, state.brushes]) filters.clear();
  byId("filter").value = "";
  byId("best-share").value = 100;
  for (const chip of all(".chip")) chip.setAttribute("aria-pressed", "true");
  refilter();
});

watchCharts();
fromAddress();
refilter();
restore();
root.dataset.ready = "true";
