"""What keeps visitors apart and the server safe: limits, headers, login, patches of Gradio."""
