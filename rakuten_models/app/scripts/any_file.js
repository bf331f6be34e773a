// Gradio's page refuses what does not look like a picture, under the title "Error". Every file goes to the server
// instead, whose answer says what is wrong with it, in the page and in the visitor's language.
const asPictures = (files) => {
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(new File([file], file.name, {type: "image/unknown"}));
    return transfer.files;
};
const needed = (files) => [...files].some((file) => !file.type.startsWith("image/"));
document.addEventListener("change", (event) => {
    const input = event.target.closest("#picture input[type=file]");
    if (input && needed(input.files)) input.files = asPictures(input.files);
}, true);
document.addEventListener("drop", (event) => {
    const input = event.target.closest("#picture") && document.querySelector("#picture input[type=file]");
    if (!input || !needed(event.dataTransfer.files)) return;
    event.preventDefault();
    event.stopPropagation();
    input.files = asPictures(event.dataTransfer.files);
    input.dispatchEvent(new Event("change", {bubbles: true}));
}, true);
