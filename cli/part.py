"""`--part`: which of several jobs this is."""

from __future__ import annotations

import os
from typing import Any

import click

from .messages import note


class Part(click.ParamType):
    """`i/n`: the i-th of n parts, counted from 0; `auto`: what the scheduler says."""

    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        if str(value).strip() == "auto":
            return self._of_environment(param, ctx)
        index, _, count = str(value).partition("/")
        several = index.isdecimal() and count.isdecimal() and max(len(index), len(count)) < 7
        if not (several and int(index) < int(count)):
            self.fail(
                f"{value!r} is neither i/n with 0 <= i < n, such as 0/4, 1/4, 2/4, 3/4, nor auto", param, ctx
            )
        return int(index), int(count)

    def _of_environment(self, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        from ..pipeline.extraction.parts import PartUnknown, part_of_environment

        try:
            part, source = part_of_environment(os.environ)
        except PartUnknown as error:
            self.fail(f"auto: {error}", param, ctx)
        note(f"part {part[0]}/{part[1]} of the videos, by {source}.")
        return part
