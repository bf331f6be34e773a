"""Measurements that anyone can repeat; each prints one table, with baselines beside this project's models."""

import os

# Before anything imports TensorFlow, whose notes would stand between the figures.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
