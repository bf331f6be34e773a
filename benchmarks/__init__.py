"""Measurements that anyone can repeat; each script prints one table with the peers beside us."""
