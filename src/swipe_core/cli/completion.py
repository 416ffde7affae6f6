"""A script for the shell, made from the commands' own options: it completes them without starting Python."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field

from swipe_core.cli.commands import COMMANDS


@dataclass
class _Words:
    """What may follow a command: its options, the words of its arguments, and the values of an option."""

    options: dict[str, str] = field(default_factory=dict)  # with their help
    words: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)


def script(shell: str) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``."""
    commands = {name: _words(command.parser()) for name, command in COMMANDS.items()}
    return _fish(commands) if shell == "fish" else _bash(commands, shell)


def _words(parser: argparse.ArgumentParser) -> _Words:
    """Collect what a parser takes, with what its sub-commands take."""
    found = _Words()
    for action in parser._actions:  # argparse has no public list of them
        choices = [str(choice) for choice in (action.choices or getattr(action, "words", None) or ())]
        found.options |= dict.fromkeys(action.option_strings, action.help or "")
        if action.option_strings:
            found.values |= {option: choices for option in action.option_strings if choices}
        else:
            found.words += choices
        if isinstance(action, argparse._SubParsersAction):
            for child in map(_words, action.choices.values()):
                found.options |= child.options
                found.words += child.words
                found.values |= child.values
    found.words = list(dict.fromkeys(found.words))
    return found


def _bash(commands: dict[str, _Words], shell: str) -> str:
    cases = "\n".join(line for name, words in commands.items() for line in _cases(name, words))
    return f"""\
{"autoload -U +X bashcompinit compinit && compinit && bashcompinit" if shell == "zsh" else ""}
_swipe() {{
  local words="" options="" word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then words="{" ".join(commands)}" options="--help --version"; else
  case "${{COMP_WORDS[1]}} $before" in
{cases}
  esac; fi
  if [ "${{word#-}}" != "$word" ]; then words="$options"; fi
  COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o bashdefault -o default -F _swipe swipe
""".lstrip()


def _cases(name: str, words: _Words) -> Iterator[str]:
    for option, values in words.values.items():
        yield f'    "{name} {option}") words="{" ".join(values)}" ;;'
    yield f'    "{name} "*) words="{" ".join(words.words)}" options="{" ".join(words.options)}" ;;'


def _fish(commands: dict[str, _Words]) -> str:
    lines = list[str]()
    for name, words in commands.items():
        summary = _quoted(COMMANDS[name].summary)
        lines.append(f"complete -c swipe -n __fish_use_subcommand -f -a {name} -d {summary}")
        start = f"complete -c swipe -n '__fish_seen_subcommand_from {name}'"
        if words.words:
            lines.append(f"{start} -a {_quoted(' '.join(words.words))}")
        for option, text in words.options.items():
            dash = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = f" -x -a {_quoted(' '.join(words.values[option]))}" if option in words.values else ""
            lines.append(f"{start} {dash} -d {_quoted(text)}{values}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main(options: argparse.Namespace) -> int:
    print(script(options.shell))
    return 0
