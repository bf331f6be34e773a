"""HTML and figures from predictions and metrics; no Gradio events."""
