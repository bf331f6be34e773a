"""What every start of the page has in common: theme, limits, middleware."""

from __future__ import annotations

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from rakuten_models.app.examples import STYLE_FILE
from rakuten_models.app.i18n.messages import translations
from rakuten_models.app.limits import MAX_UPLOAD
from rakuten_models.app.security.disk_quota import DiskQuota
from rakuten_models.app.security.middleware import Guard

# So many pages' state is kept at a time; of the others, the one that lay idle longest is forgotten.
MAX_PAGE_STATES = 1000

# Weight 700 and not Gradio's usual 600, whose bundled files lack most letters (gradio 6.31).
_FONTS = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")

_MONO_FONTS = (gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace")


def launch_settings(disk: DiskQuota) -> dict[str, Any]:
    """What every start of the page has in common, whoever calls `launch`.

    Args:
        disk: Bounds what visitors may leave there.
    """
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=_FONTS, font_mono=_MONO_FONTS
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="*neutral_50",
        block_border_width="1px",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_weight="700",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_border_color_focus="*primary_500",
        input_placeholder_color="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        button_large_text_weight="700",
    )
    return {
        "theme": theme,
        "css_paths": STYLE_FILE,
        "footer_links": ["api"],
        "i18n": gr.I18n(**translations()),
        "max_file_size": MAX_UPLOAD,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "pwa": False,
        # Our own sentences are shown all the same; what a library says of its insides is not.
        "show_error": False,
        "state_session_capacity": MAX_PAGE_STATES,
        "app_kwargs": {"middleware": [Middleware(Guard, disk=disk)], "lifespan": disk.swept, "openapi_url": None},
    }
