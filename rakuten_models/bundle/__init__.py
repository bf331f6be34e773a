"""The bundle's folder: its files, its settings, the checks that loading makes."""
