(language) => {
    try { localStorage.setItem("rakuten-language", language); } catch (error) {}
    window.rakutenSpeak?.(language);
}
