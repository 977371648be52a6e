// The comparison of studies: one chart, painted from the CSS variables of the scheme.
const { figures } = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
root.classList.add("js");
const draw = (width) => {
  const { data, layout } = structuredClone(figures.versus);
  if (width) layout.width = width;
  for (const trace of data) {
    const color = css(`c-${trace.meta.role}`); // plotly writes no empty line or marker
    trace.line = { ...trace.line, color };
    trace.marker = { ...trace.marker, color };
  }
  const axis = { gridcolor: css("line"), linecolor: css("line-strong"), zeroline: false,
    tickfont: { color: css("muted") }, title: { font: { color: css("muted"), size: 12 } } };
  layout.template = { layout: { paper_bgcolor: css("panel"), plot_bgcolor: css("panel"),
    font: { family: css("sans"), color: css("ink"), size: 12 }, xaxis: axis, yaxis: axis } };
  Plotly.react("plot-versus", data, layout, { displayModeBar: false, responsive: true });
};
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
addEventListener("beforeprint", () => { root.dataset.theme = "light"; draw(700); });
addEventListener("afterprint", () => { delete root.dataset.theme; draw(); });
const lightbox = document.getElementById("lightbox");
for (const button of document.querySelectorAll(".grid")) {
  button.addEventListener("click", () => {
    lightbox.replaceChildren(button.querySelector("img").cloneNode());
    lightbox.showModal();
  });
}
lightbox.addEventListener("click", () => lightbox.close());
root.dataset.ready = "true";
