"""Types of values of options: finite numbers, devices, files that are written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number between two others; neither nan nor inf, which compare with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Device(click.ParamType):
    """Where it is computed; whether it is there is asked when the command begins."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?", str(value), re.ASCII):
            self.fail(f"{value!r} is no device: use auto, cpu, cuda, cuda:1 or mps.", param, ctx)
        return str(value)


PICTURES = (".png", ".svg", ".pdf")


class OutputFile(click.Path):
    """A file that will be written: that this is possible is checked before the work begins.

    suffixes    the name must end in one of them, where some are given
    dash        whether `-` is standard output
    """

    def __init__(self, *, suffixes: Sequence[str] = (), dash: bool = False) -> None:
        super().__init__(path_type=Path, dir_okay=False, allow_dash=dash)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "-" and not self.allow_dash:
            self.fail("this is not written to standard output: name a file.", param, ctx)
        return super().convert(value, param, ctx)
