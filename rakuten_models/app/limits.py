"""What a visitor may upload, and what is said where it is too much."""

from __future__ import annotations

MEGABYTE = 1024 * 1024

MAX_PICTURE = 20 * MEGABYTE

MAX_UPLOAD = 200 * MEGABYTE

NO_FILE = "This message holds no file; upload the file and send what the upload answers."

NO_SESSION = "This message names no visit (session_hash); use the page, or the endpoint /classify_batch."

NO_ROOM = "The app holds as many files as it may; try again in an hour, or send smaller ones."

NO_DATA_PICTURE = "The picture's data: address holds no picture; upload a JPEG, PNG, WebP or GIF file."
