"""Completion in shells: the commands' own parsers become a script of bash, zsh or fish.

The script is only text: no gateway and no Python runs while a person types.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True)
class Word:
    """A word that may be typed, and its meaning."""

    text: str
    meaning: str


@dataclass(frozen=True)
class Place:
    """The words that may follow a command or a verb of it, such as `cache why`; `values` are those of options with a
    closed list, `free` the options with any value."""

    verbs: tuple[Word, ...]
    options: tuple[Word, ...]
    values: Mapping[str, tuple[str, ...]]
    free: tuple[str, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        return (*self.verbs, *self.options)


def places_of(parsers: Mapping[str, argparse.ArgumentParser]) -> dict[str, Place]:
    """The words that may follow a command or `command verb`, from the parsers by command; under the empty text, the
    first words."""
    commands = [Word(name, first_clause(parser.description or "")) for name, parser in sorted(parsers.items())]
    commands.append(Word("version", "the version"))
    places = {"": Place(tuple(commands), (), {}, ())}
    for name, parser in sorted(parsers.items()):
        places |= dict(_places(name, parser))
    return places


def _places(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, Place]]:
    verbs: list[Word] = []
    options: list[Word] = []
    values: dict[str, tuple[str, ...]] = {}
    free: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            meanings = {one.dest: one.help or "" for one in action._choices_actions}
            for verb, below in action.choices.items():
                verbs.append(Word(verb, first_clause(meanings.get(verb, ""))))
                yield from _places(f"{name} {verb}", below)
        elif not action.option_strings:
            choices = _METHODS if action.metavar == "METHOD" else action.choices or ()
            verbs += [Word(str(choice), "") for choice in choices]
        elif action.help != argparse.SUPPRESS:
            meaning = first_clause(action.help or "")
            options += [Word(text, meaning) for text in action.option_strings]
            if action.choices:
                values |= {text: tuple(map(str, action.choices)) for text in action.option_strings}
            elif action.nargs != 0:
                free += action.option_strings
    yield name, Place(tuple(verbs), tuple(options), values, tuple(free))


def first_clause(text: str) -> str:
    """A help text up to its first stop, in one line."""
    return re.split(r"[.:;](?:\s|$)", " ".join(text.split()), maxsplit=1)[0]


def script(shell: str, places: Mapping[str, Place]) -> str:
    """The script for `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](places)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _value_cases(places: Mapping[str, Place]) -> Iterator[tuple[str, Iterable[str] | None]]:
    """`place:option` patterns of a shell's `case`, with the values; None for any word, perhaps a file."""
    for name, place in places.items():
        for option, values in place.values.items():
            yield f"{_quoted(f'{name}:{option}')}", values
        if place.free:
            yield "|".join(_quoted(f"{name}:{option}") for option in place.free), None


_FIND_PLACE: Final = """\
  local place= word
  for word in "${before[@]}"; do
    case "$place${place:+ }$word" in
      %s) place="$place${place:+ }$word" ;;
    esac
  done
"""


def _find_place(places: Mapping[str, Place]) -> str:
    return _FIND_PLACE % "|".join(_quoted(name) for name in places if name)


def _bash(places: Mapping[str, Place]) -> str:
    values = "".join(
        f"    {pattern}) " + (f"words={_quoted(' '.join(found))} ;;\n" if found is not None else "return ;;\n")
        for pattern, found in _value_cases(places)
    )
    words = "".join(
        f"      {_quoted(name)}) words={_quoted(' '.join(word.text for word in place.words))} ;;\n"
        for name, place in places.items()
    )
    return f"""\
# Completion of the gateway command in bash: source <(gateway completion bash)
_gateway() {{
  local before=("${{COMP_WORDS[@]:1:COMP_CWORD-1}}") words=
{_find_place(places)}\
  case "$place:${{COMP_WORDS[COMP_CWORD-1]}}" in
{values}\
    *) case "$place" in
{words}\
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _gateway gateway
"""


def _zsh(places: Mapping[str, Place]) -> str:
    values = "".join(
        f"    {pattern}) "
        + (f"compadd -- {' '.join(found)}; return ;;\n" if found is not None else "_files; return ;;\n")
        for pattern, found in _value_cases(places)
    )
    words = "".join(
        f"    {_quoted(name)}) found=({' '.join(_quoted(_described(word)) for word in place.words)}) ;;\n"
        for name, place in places.items()
    )
    return f"""\
#compdef gateway
# Completion of the gateway command in zsh: source <(gateway completion zsh), after compinit
_gateway() {{
  local -a before found
  before=("${{(@)words[2,CURRENT-1]}}")
{_find_place(places)}\
  case "$place:${{words[CURRENT-1]}}" in
{values}\
  esac
  case "$place" in
{words}\
  esac
  _describe 'word' found || _files
}}
compdef _gateway gateway
"""


def _described(word: Word) -> str:
    text = word.text.replace(":", "\\:")
    return f"{text}:{word.meaning}" if word.meaning else text


def _fish(places: Mapping[str, Place]) -> str:
    lines = ["# Completion of the gateway command in fish: gateway completion fish | source"]
    for name, place in places.items():
        words = name.split()
        seen = [f"__fish_seen_subcommand_from {word}" for word in words] or ["__fish_use_subcommand"]
        if len(words) < 2 and place.verbs and words:
            seen.append(f"not __fish_seen_subcommand_from {' '.join(word.text for word in place.verbs)}")
        condition = _quoted("; and ".join(seen))
        lines += [
            f"complete -c gateway -f -n {condition} -a {word.text} -d {_quoted(word.meaning)}" for word in place.verbs
        ]
        for word in place.options:
            flag = f"-l {word.text[2:]}" if word.text.startswith("--") else f"-s {word.text[1:]}"
            value = ""
            if word.text in place.values:
                value = f" -x -a {_quoted(' '.join(place.values[word.text]))}"
            elif word.text in place.free:
                value = " -r"
            lines.append(f"complete -c gateway -n {condition} {flag}{value} -d {_quoted(word.meaning)}")
    return "\n".join(lines) + "\n"
