// Samples wherever a trial is: in the table, on hover, in the selection; enlarged beside real images.
const strip = (trial) => {
  if (!data.strips[trial]) return null;
  const picture = document.createElement("img");
  picture.src = data.strips[trial];
  picture.alt = `samples of trial ${trial}`;
  picture.className = "samples";
  return picture;
};

// ---- lightbox: the picture, its caption, real images beside it; arrow keys go on ----------------
const lightbox = byId("lightbox");
const grids = all(".grid");
const realGrid = grids.find((one) => one.dataset.view === "real" || one.closest("[data-view=real]"));
let shownGrid = -1;
const captioned = (button, words) => {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = words;
  figure.append(button.querySelector("img").cloneNode(), caption);
  return figure;
};
const enlarge = (at) => {
  shownGrid = (at + grids.length) % grids.length;
  const button = grids[shownGrid];
  const parts = [captioned(button, button.querySelector("img").alt)];
  if (realGrid && button !== realGrid) parts.push(captioned(realGrid, "real images"));
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "close";
  close.addEventListener("click", () => lightbox.close());
  const hint = document.createElement("p");
  hint.textContent = `${shownGrid + 1} of ${grids.length}; arrow keys show the others`;
  lightbox.replaceChildren(...parts, hint, close);
  if (!lightbox.open) lightbox.showModal();
};
grids.forEach((button, at) => button.addEventListener("click", () => enlarge(at)));
lightbox.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) { event.preventDefault(); enlarge(shownGrid + step); }
});
lightbox.addEventListener("click", (event) => {
  if (event.target === lightbox || event.target.tagName === "IMG") lightbox.close();
});

// ---- steps: one trial over its training, from the same latents, beside what is pinned ------------
const steps = byId("steps");
if (steps) {
  const [trial, slider] = steps.querySelectorAll("select, input");
  const pin = byId("pin");
  const [left, right] = steps.querySelectorAll("figure");
  const shots = () => all("figure.step", document.querySelector(`.strip[data-trial="${trial.value}"]`));
  const put = (figure, source) => {
    const { src, alt } = source.querySelector("img");
    Object.assign(figure.querySelector("img"), { src, alt });
    figure.querySelector("figcaption").textContent = alt;
  };
  const show = () => {
    const shot = shots()[slider.value];
    put(left, shot);
    slider.setAttribute("aria-valuetext", shot.querySelector("img").alt);
  };
  const choose = () => {
    const list = shots();
    slider.max = list.length - 1;
    const best = list.findIndex((one) => one.classList.contains("chosen"));
    slider.value = best < 0 ? list.length - 1 : best;
    show();
  };
  let pinned = false;
  trial.addEventListener("change", choose);
  slider.addEventListener("input", show);
  pin.addEventListener("click", () => {
    pinned = !pinned;
    pin.textContent = pinned ? "show real images" : "pin this step";
    put(right, pinned ? left : document.querySelector(".strip .real"));
  });
  choose();
  put(right, document.querySelector(".strip .real"));
}
