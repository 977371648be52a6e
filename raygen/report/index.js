// Sorting and filtering the table of studies.
const all = (selector) => [...document.querySelectorAll(selector)];
document.documentElement.classList.add("js");
const body = document.querySelector(".studies tbody");
const rows = all(".studies tbody tr");
let sorted = { key: "", down: false };
const compare = (a, b) => {
  // Absent values go last in both directions.
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const order = a.localeCompare(b, "en", { numeric: true });
  const numbers = [Number(a), Number(b)];
  const way = numbers.some(Number.isNaN) ? order : numbers[0] - numbers[1];
  return sorted.down ? -way : way;
};
for (const button of all(".sort")) {
  button.addEventListener("click", () => {
    const { key } = button.dataset;
    sorted = { key, down: sorted.key === key && !sorted.down };
    body.append(...[...rows].sort((a, b) => compare(a.dataset[key], b.dataset[key])));
    for (const other of all(".sort")) {
      const way = sorted.down ? "descending" : "ascending";
      other.parentElement.setAttribute("aria-sort", other === button ? way : "none");
    }
  });
}
const show = () => {
  const text = document.getElementById("filter").value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !row.textContent.toLowerCase().includes(text);
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${rows.length} shown`;
};
document.getElementById("filter").addEventListener("input", show);
show();
document.documentElement.dataset.ready = "true";
