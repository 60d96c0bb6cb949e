"""How a setting is declared: a dataclass field that knows its help, its bounds and its absl flag.

`config.py` says which settings there are; nothing here knows any of them.
"""

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, get_args

from absl import flags

from zforcing_tf.errors import UserError

Field: TypeAlias = dataclasses.Field[Any]

flags.disclaim_key_flags()  # the flags belong to the module whose settings they are

_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "one line of text",
}
_DEFINE: dict[Any, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def setting(
    default: object,
    text: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    resumable: bool = False,
    switch: bool = False,
) -> Any:
    """Declares a field of a `Section`, whose type is bool, int, float, str or a Literal of strings.

    Args:
        default: value where none is given.
        text: help, one sentence.
        minimum: smallest value; or `above`: what every value exceeds.
        above: see `minimum`.
        maximum: largest value; or `below`: what every value stays under.
        below: see `maximum`.
        resumable: whether a run may go on with another value and still be the same experiment.
        switch: whether the choices `on` and `off` may be given as those of a bool too, by
            `--name`, `--noname`, true and false: it was one once.
    """
    limits = zip(_BOUNDS, (minimum, above, maximum, below), strict=True)
    bounds = {words: limit for words, limit in limits if limit is not None}
    metadata = {"help": text, "bounds": bounds, "resumable": resumable, "switch": switch}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Section:
    """A group of settings, each checked when the section is made.

    Raises:
        UserError: a value that is not allowed.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))


def _checked(field: Field, value: Any) -> Any:
    kind: Any = field.type
    if kind is float and type(value) is int:
        value = float(value)
    if field.metadata["switch"] and isinstance(value, bool):
        value = "on" if value else "off"
    bounds: dict[str, float] = field.metadata["bounds"]
    if choices := get_args(kind):
        fits = value in choices
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        fits = False
    elif isinstance(value, str):
        fits = value.isprintable() and value == value.strip()
    else:
        fits = math.isfinite(value) and all(_BOUNDS[b](value, bounds[b]) for b in bounds)
    if not fits:
        given = f"--{field.name}={as_text(value)}"
        raise UserError(f"{given} is not possible; give {allowed_values(field)}")
    return value


def allowed_values(field: Field) -> str:
    """What a setting may be, in words, such as `a number, at least 0, below 1`."""
    if choices := get_args(field.type):
        return "one of " + ", ".join(choices)
    return ", ".join([_KINDS[field.type], *bounds_in_words(field)])


def bounds_in_words(field: Field) -> list[str]:
    """Such as `["at least 0", "below 1"]`; empty where every value of the kind is allowed."""
    return [f"{words} {limit}" for words, limit in field.metadata["bounds"].items()]


def as_text(value: object) -> str:
    """A value as one writes it in a flag."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def define_flag(field: Field, flag_values: flags.FlagValues) -> None:
    """Defines the flag of a setting: its name, its default, its kind, its help."""
    default: Any = field.default
    text = field.metadata["help"]
    if field.metadata["switch"]:
        flag = _Switch(field.name, default, text, get_args(field.type))
        flags.DEFINE_flag(flag, flag_values)
    elif choices := get_args(field.type):
        flags.DEFINE_enum(field.name, default, choices, text, flag_values)
    else:
        _DEFINE[field.type](field.name, default, text, flag_values=flag_values)


class _Switch(flags.EnumFlag):
    """An enum flag with `on` and `off` that may be given without a value too."""

    def __init__(self, name: str, default: str, text: str, choices: Sequence[str]) -> None:
        super().__init__(name, default, text, list(choices))
        self.boolean = True  # to absl: `--name` is true, `--noname` is false

    def _parse(self, argument: Any) -> str | None:
        if isinstance(argument, str):
            # As absl reads what is true or false, which this flag was at first.
            old = dict.fromkeys(("true", "t", "1"), "on") | dict.fromkeys(
                ("false", "f", "0"), "off"
            )
            argument = old.get(argument.lower(), argument)
        return super()._parse(argument)
