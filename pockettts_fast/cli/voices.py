"""``pockettts-fast voices``: the names that ``--voice`` takes."""

import click

from pockettts_fast.cli import facts, options


@click.command()
@options.language_option
@options.json_flag
def voices(language: str | None, as_json: bool) -> None:
    """List the built-in voices of a language; nothing is downloaded."""
    from pockettts_fast.config import language_config_path
    from pockettts_fast.defaults import DEFAULT_LANGUAGE, default_voice_for_language, voices_for_language

    language = DEFAULT_LANGUAGE if language is None else language
    language_config_path(language)  # refuses an unknown one
    default = default_voice_for_language(language)
    names = voices_for_language(language)
    if as_json:
        click.echo(facts.to_json({"language": language, "default": default, "voices": list(names)}))
        return
    for name in names:
        click.echo(f"{name} (default)" if name == default else name)
