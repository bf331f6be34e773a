() => {
    // The language of Gradio's own words is the browser's. Its module can change it, and is found by its name among the
    // files that the page has loaded; where that fails, only Gradio's own few words stay as they are.
    const speak = (language) => {
        document.documentElement.lang = language;
        const files = performance.getEntriesByType("resource").map((entry) => entry.name);
        const core = files.find((name) => /\/core-[^/]*\.js$/.test(name));
        if (core) import(core).then((module) => module.changeLocale && module.changeLocale(language)).catch(() => {});
    };
    let language = null;
    try { language = localStorage.getItem("rakuten-language"); } catch (error) {}
    if (language !== "en" && language !== "fr")
        language = (navigator.language || "en").toLowerCase().startsWith("fr") ? "fr" : "en";
    window.rakutenSpeak = speak;
    speak(language);
    return language;
}
