"""Hooks are installed by `msprof_rs`, which was imported before this could be."""
