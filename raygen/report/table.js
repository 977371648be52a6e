// The table: sorted, filtered, and with more rows than the page came with when they are asked for.
const body = document.querySelector("#trials-table tbody");
const rows = new Map(all("#trials-table tr[data-trial]").map((row) => [Number(row.dataset.trial), row]));
// A finalist's trainings with new seeds: they go where its row goes.
const replicates = all("#trials-table tr[data-of]");
const rowsOf = (trial) =>
  [rowOf(trial), ...replicates.filter((row) => Number(row.dataset.of) === trial)];
const most = Number(byId("trials-table")?.dataset.most || Infinity);
const keys = all("#trials-table .sort").map((button) => button.dataset.key);

// As trials_table.py writes a row.
const rowOf = (trial) => {
  if (rows.has(trial)) return rows.get(trial);
  const row = document.createElement("tr");
  const values = facts.get(trial);
  row.id = `trial-${trial}`;
  row.dataset.trial = trial;
  row.dataset.state = values[column.state];
  for (const key of keys) {
    const cell = row.insertCell();
    const value = values[column[key]];
    if (key === "trial") {
      const link = document.createElement("a");
      link.href = `#trial-${trial}`;
      link.textContent = trial < data.starts ? `⚑ ${trial}` : trial;
      cell.append(link);
      row.insertCell().className = "strip-cell";
    } else if (key === "state") {
      const [glyph, ...text] = data.states[value].split(" ");
      const sign = document.createElement("i");
      cell.className = `state state-${value}`;
      sign.textContent = glyph;
      cell.append(sign, ` ${text.join(" ")}`);
    } else if (key === "reason") {
      cell.className = "reason";
      cell.title = cell.textContent = value ?? "";
    } else if (key === "seconds") cell.textContent = duration(value);
    else if (["value", "best_kimg", "kimg"].includes(key)) cell.textContent = number(value);
    else cell.textContent = setting(value);
  }
  rows.set(trial, row);
  return row;
};
const withStrip = (row) => {
  const cell = row.querySelector(".strip-cell");
  const picture = cell.firstChild ? null : strip(Number(row.dataset.trial));
  if (picture) cell.append(picture);
  return row;
};
const compare = (a, b) => {
  // Absent values go last in both directions.
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return state.sort.down ? -order : order;
};
const byRank = (a, b) => (place.get(a) ?? Infinity) - (place.get(b) ?? Infinity) || a - b;
const showTable = () => {
  if (!body) return;
  const at = column[state.sort.key];
  const order = state.sort.key === null ? byRank
    : (a, b) => compare(facts.get(a)[at], facts.get(b)[at]) || a - b;
  const shown = [...passing].sort(order).slice(0, most);
  if (state.selected !== null && passing.has(state.selected) && !shown.includes(state.selected)) {
    shown.push(state.selected);
  }
  body.replaceChildren(...shown.flatMap((trial) => {
    const [row, ...again] = rowsOf(trial);
    return [withStrip(row), ...again];
  }));
};
for (const button of all(".sort")) {
  button.addEventListener("click", () => {
    const { key } = button.dataset;
    state.sort = { key, down: state.sort.key === key && !state.sort.down };
    for (const other of all(".sort")) {
      const way = state.sort.down ? "descending" : "ascending";
      other.parentElement.setAttribute("aria-sort", other.dataset.key === key ? way : "none");
    }
    showTable();
  });
}
body?.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (getSelection().toString()) return;  // somebody is copying text
  event.preventDefault();
  select(Number(row.dataset.trial ?? row.dataset.of));
});
