// A cell is chosen with a click or Enter; the arrow keys walk, so that Tab need not pass every cell.
element.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    element.querySelectorAll(".cell[aria-pressed]").forEach((other) => other.removeAttribute("aria-pressed"));
    cell.setAttribute("aria-pressed", "true");
    trigger("select", {truth: Number(cell.dataset.truth), answer: Number(cell.dataset.answer)});
});
element.addEventListener("keydown", (event) => {
    const cell = event.target.closest(".cell");
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!cell || !step) return;
    event.preventDefault();
    const [truth, answer] = [Number(cell.dataset.truth) + step[0], Number(cell.dataset.answer) + step[1]];
    const next = element.querySelector(`.cell[data-truth="${truth}"][data-answer="${answer}"]`);
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
});
