"""The card of a public copy: `README.md` with front matter, as hubs of datasets show it."""

from __future__ import annotations

import re
from collections import Counter

from ...cache import Identity
from ...cache.identity import describe_sampling
from .public_copy import PublicCopy

BEGIN, END = "<!-- vidclip: begin -->", "<!-- vidclip: end -->"
"""What is between them is written anew by each push; the rest of a card is its owner's."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))  # fmt: skip


def new_card(copy: PublicCopy, repo: str, license: str = "") -> str:
    """Return a whole card.

    license    identifier of the hub (`cc-by-4.0`, `other`); empty: none is stated, and the card says so
    Raises ValueError for a license that is no identifier.
    """
    if license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", license):
        raise ValueError(f"{license!r} is no identifier of a license, such as cc-by-4.0 or other")
    n = copy.manifest.videos
    size = next((name for limit, name in _SIZES if n < limit), "10M<n<100M")
    front = [
        "---",
        *([f"license: {license}"] if license else []),
        "tags:",
        "- vidclip",
        "- video",
        "- clip",
        "- embeddings",
        "size_categories:",
        f"- {size}",
        "viewer: false",
        "---",
    ]
    terms = (
        f"`{license}`, as its publisher says."
        if license
        else "**Not stated.** Its publisher has to say it here (`license:` above). The terms of the videos may extend to what was "
        "computed from them."
    )
    title = f"# Video features: {repo.rpartition('/')[2]}"
    return "\n".join([*front, "", title, "", card_section(copy, repo), "", "## License", "", terms, ""])


def card_section(copy: PublicCopy, repo: str) -> str:
    """Return the generated part of a card, with the lines that enclose it."""
    cache, manifest = copy.cache, copy.manifest
    identity, (n, views, times, dimensions) = cache.identity, cache.shape
    labels = len({label for own in cache.labels for label in own})
    splits = Counter(word for split in cache.splits for word in split.split())
    encoder = identity.encoder
    rows = [
        ("videos", f"{n:,}"),
        ("features", f"{views} views x {times} frames x {dimensions}, float16, not normalized"),
        *([("patch tokens", " x ".join(map(str, cache.patch_shape)))] if cache.patch_shape else []),
        ("labels", f"{labels:,}" if labels else "none"),
        ("splits", ", ".join(f"{_code(name)} {count:,}" for name, count in sorted(splits.items())) or "none"),
        ("encoder", _code(identity.encoder_name)),
        ("weights", f"SHA-256 {_code(encoder.get('weights_sha256', 'unknown'))}"),
        ("sampling", _code(describe_sampling(identity.sampling))),
        ("precision", _code(", ".join(cache.precisions) or "unknown")),
        ("identity", f"SHA-256 {_code(identity.digest)}"),
        ("size", f"{manifest.n_bytes:,} bytes in {len(manifest.files):,} files"),
    ]
    lines = [
        BEGIN,
        "",
        "Embeddings of the frames of videos by a CLIP encoder, as a cache of the program vidclip. The "
        "videos themselves are not here.",
        "",
        "| what | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "## Use",
        "",
        "```sh",
        "pip install 'vidclip[hf]'",
        f"vidclip pull {repo} --cache features    # checks every file against its SHA-256",
        "vidclip info features",
        *(["vidclip eval --cache features"] if labels else ['vidclip search "a person juggling" --cache features']),
        "```",
        "",
        f"{_loading(identity)} Without vidclip: the files are HDF5; `frames-*.h5` have `frames` [n, views, frames, dimensions], "
        "`timestamps` (seconds), `id`, `labels`.",
        "",
        "## Files",
        "",
        "| file | bytes | SHA-256 |",
        "|---|---|---|",
        *(f"| {_code(name)} | {size:,} | {_code(sha)} |" for name, (size, sha) in sorted(manifest.files.items())[:200]),
        *([f"| and {len(manifest.files) - 200:,} more | | `vidclip.json` has all |"] if len(manifest.files) > 200 else []),
        "",
        END,
    ]  # fmt: skip
    return "\n".join(lines)


def updated_card(card: str, section: str) -> str | None:
    """Return a card with its generated part replaced by `section`; None for a card that has no such part."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + section + after if begin and end else None


def _loading(identity: Identity) -> str:
    if identity.model.startswith("local-dir:") or "." in identity.pretrained:
        return "Texts that are not among its files need the encoder itself, which is not here, named with `--model`."
    return "Texts that are not among its files are embedded with the encoder, which is loaded by its name."


def _code(text: object) -> str:
    """Return a text as code in a table's cell: nothing in it is markup."""
    plain = "".join(c if c.isprintable() else "?" for c in str(text)).replace("`", "'").replace("|", "/")
    return f"`{plain}`"
