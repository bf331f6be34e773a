// A picked category is sent at once; the keyboard focus stays where it is, for nothing is drawn anew.
element.addEventListener("change", (event) => {
    const list = event.target.closest("select[data-row]");
    if (!list) return;
    list.closest("li").classList.toggle("done", list.value !== "");
    trigger("select", {row: Number(list.dataset.row), code: list.value === "" ? null : Number(list.value)});
});
