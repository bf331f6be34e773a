"""What rakuten_models/app/security/gradio_patches.py changes in Gradio is still as it was when that was written."""

import ast
import hashlib
import inspect
import traceback
from pathlib import Path

import gradio
import pytest
from gradio import processing_utils, queueing, route_utils, routes, state_holder, utils

from rakuten_models.app.security import gradio_patches


def source_of(module, name):
    """A definition's text, whatever now bears its name."""
    text = Path(inspect.getsourcefile(module)).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if getattr(node, "name", None) == name:
            return ast.get_source_segment(text, node)
    return None


@pytest.mark.parametrize(
    ("module", "name", "digest"),
    [
        (processing_utils, "async_ssrf_protected_get", "53b3e790242a5108"),
        (processing_utils, "_check_allowed", "dd6f2d1e973ae57b"),
        (route_utils, "GradioMultiPartParser", "8c0ed2fde1964d9b"),
        (state_holder, "StateHolder", "1ee87dba44b94fe5"),
    ],
)
def test_what_is_replaced_is_as_it_was(module, name, digest):
    """Look at what has changed, adapt the patch, and note the new digest."""
    source = source_of(module, name)
    assert source is not None, f"Gradio {gradio.__version__} has no {name}"
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == digest, gradio.__version__


@pytest.mark.parametrize("module", [queueing, route_utils, routes, utils])
def test_gradio_prints_its_tracebacks_where_the_patch_catches_them(module):
    assert module.traceback is traceback and "traceback.print_exc()" in inspect.getsource(module)


def test_a_page_has_what_is_replaced_and_cleared():
    with gradio.Blocks() as demo:
        box = gradio.Textbox()
    assert isinstance(demo.upload_file_set, set) and isinstance(box.temp_files, set)
    assert demo.temp_file_sets == [demo.upload_file_set, box.temp_files]
    queue, states = demo._queue, state_holder.StateHolder()
    for kept in (
        queue.pending_event_ids_session,
        queue.pending_messages_per_session,
        states.session_data,
        states.time_last_used,
    ):
        assert "none" not in kept and hasattr(kept, "__delitem__")


def test_few_events_are_kept_and_never_added_up(monkeypatch):
    for name in gradio_patches._MONITORING:
        monkeypatch.delenv(name, raising=False)
    gradio_patches.patch_gradio()
    with gradio.Blocks() as demo:
        pass
    queue = demo._queue
    queue.events_recorded = 1_000_000
    assert queue.ANALYTICS_MAX_EVENTS == 100
    assert queue.compute_analytics_summary([{"function": "f", "status": "success"}]) == {"functions": {}}


def test_there_are_at_most_six_patches_and_the_version_is_named():
    assert gradio.__version__ in gradio_patches.__doc__
    source = inspect.getsource(gradio_patches)
    assert [number for number in range(1, 10) if f" {number}. " in source] == [1, 2, 3, 4, 5, 6]
