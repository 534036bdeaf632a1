"""SGLang: the plugin's entry point (group `sglang.srt.plugins`)."""


def register() -> None:
    """The entry point: SGLang calls it in every process."""
    import msprof_rs

    msprof_rs.activate()
