"""What a visitor may upload."""

from __future__ import annotations

MEGABYTE = 1024 * 1024

MAX_PICTURE = 20 * MEGABYTE

MAX_UPLOAD = 200 * MEGABYTE
