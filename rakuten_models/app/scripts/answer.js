// Keeps "show all" open from answer to answer, and says which category was chosen in the list.
let open = false;
element.addEventListener("toggle", (event) => { if (event.target.isConnected) open = event.target.open; }, true);
watch("value", () => {
    const others = element.querySelector("details");
    if (others && open) others.open = true;
});
element.addEventListener("click", (event) => {
    const row = event.target.closest("[data-code]");
    if (row) trigger("select", {code: Number(row.dataset.code)});
});
