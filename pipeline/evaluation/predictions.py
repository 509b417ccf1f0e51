"""What was said of every video, in a file that other programs read: CSV, JSON or Parquet, by the end of its name.

A row for each protocol, trial, scorer and video: protocol, trial, scorer, id, label, rank (1: right), class1, score1,
class2, score2, ... best first. CSV is UTF-8 with every text in quotation marks, and Parquet needs pyarrow.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...cache import FeatureCache
from ...lexicons import Lexicon
from .labels import LabeledVideos
from .results import EvaluationError, Result

SUFFIXES = (".csv", ".json", ".parquet")
FORMAT = "vidclip predictions 1"
_FIRST = ("protocol", "trial", "scorer", "id", "label", "rank")


@dataclass(frozen=True)
class PredictionRow:
    """What one scorer said of one video in one trial."""

    protocol: str
    trial: str
    scorer: str
    id: str
    label: str
    rank: int
    """Of the true class; 1 where it is the best."""
    best: tuple[tuple[str, float], ...]
    """(class, score), best first."""


def prediction_rows(
    cache: FeatureCache, lexicon: Lexicon, test: LabeledVideos, results: Iterable[Result]
) -> Iterator[PredictionRow]:
    """Yield the rows of results that kept their predictions, trial by trial."""
    for result in results:
        for trial in result.predictions:
            for row, video in enumerate(trial.videos):
                pairs = zip(trial.best[row], trial.scores[row], strict=True)
                yield PredictionRow(
                    result.protocol,
                    trial.name,
                    result.scorer,
                    cache.ids[test.indices[video]],
                    lexicon.labels[trial.labels[row]],
                    int(trial.ranks[row]) + 1,
                    tuple((lexicon.labels[c], float(score)) for c, score in pairs),
                )


def check_predictions_file(path: Path) -> None:
    """Raise EvaluationError for a suffix that is none of SUFFIXES, and for .parquet without pyarrow."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise EvaluationError(f"{path}: the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if suffix == ".parquet":
        _pyarrow(path)


def encode_predictions(path: Path, rows: Sequence[PredictionRow]) -> bytes:
    """Return the content of a file of this name. Raises EvaluationError as `check_predictions_file` does."""
    check_predictions_file(path)
    if path.suffix.lower() == ".json":
        return (json.dumps({"format": FORMAT, "videos": [asdict(row) for row in rows]}) + "\n").encode()
    width = max((len(row.best) for row in rows), default=0)
    names = [*_FIRST, *(f"{name}{k + 1}" for k in range(width) for name in ("class", "score"))]
    flat = [_flat(row, width) for row in rows]
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows([names, *(["" if cell is None else cell for cell in row] for row in flat)])
        return text.getvalue().encode("utf-8", "surrogateescape")  # ids are paths, which need not be UTF-8
    pyarrow = _pyarrow(path)
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    columns = {name: [_unicode(row[place]) for row in flat] for place, name in enumerate(names)}
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def read_predictions(path: Path) -> list[PredictionRow]:
    """Return the rows of a file. Raises EvaluationError for one that is none, and where it cannot be read."""
    check_predictions_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            from pyarrow import parquet  # pyright: ignore[reportMissingImports]

            return [_row(record) for record in parquet.read_table(path).to_pylist()]
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if suffix == ".csv":
            return [_row(record) for record in csv.DictReader(io.StringIO(text, newline=""))]
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}")
        return [
            PredictionRow(
                **{
                    **each,
                    "rank": int(each["rank"]),
                    "best": tuple((str(c), float(s)) for c, s in each["best"]),
                }
            )
            for each in document["videos"]
        ]
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise EvaluationError(
            f"{path} is no file of `vidclip eval --predictions`: {why}. Make one with it."
        ) from error


def _flat(row: PredictionRow, width: int) -> list[Any]:
    cells: list[Any] = [row.protocol, row.trial, row.scorer, row.id, row.label, row.rank]
    for k in range(width):
        cells += row.best[k] if k < len(row.best) else (None, None)
    return cells


def _row(record: dict[str, Any]) -> PredictionRow:
    best = []
    while record.get(f"class{len(best) + 1}") not in (None, ""):
        k = len(best) + 1
        best.append((str(record[f"class{k}"]), float(record[f"score{k}"])))
    protocol, trial, scorer, id, label = (str(record[name]) for name in _FIRST[:-1])
    return PredictionRow(protocol, trial, scorer, id, label, int(float(record["rank"])), tuple(best))


def _unicode(cell: Any) -> Any:
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise EvaluationError(
            f"{path}: Parquet needs a package that is not installed: pip install 'vidclip[parquet]'. Or name a .csv or "
            ".json file."
        ) from error
    return pyarrow
