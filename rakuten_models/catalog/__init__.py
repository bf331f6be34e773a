"""Reads catalogs: file formats, columns, pictures. Batch, app, training and evaluation share it."""
