"""The app's entry point on a laptop and in a hosted Space: `python app.py --help`; see rakuten_models/app."""

from __future__ import annotations

import sys
from typing import Any

from rakuten_models.app.launch import load_demo, main
from rakuten_models.cli import run_command

try:
    # Only there on a ZeroGPU Space, which wants it imported before anything else uses a GPU.
    import spaces
except ImportError:
    spaces = None


def __getattr__(name: str) -> Any:
    """`app.demo`, made when it is first asked for.

    A Space runs `python app.py`, which ends in `main`; but its platform, or `gradio app.py`, may instead
    import this module and launch its `demo`. Both find the same page, and a mere import loads nothing.
    """
    if name == "demo":
        return globals().setdefault("demo", load_demo())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if spaces is not None:

    @spaces.GPU
    def wanted_by_zero_gpu() -> None:
        """A ZeroGPU Space refuses to start without one marked function; ours need no GPU, so nothing calls it."""


if __name__ == "__main__":
    sys.exit(run_command(main))
