"""A hub of datasets on this machine: what huggingface_hub asks of one, for tests of `vidclip push` and `pull`.

Answers as the hub does to: repository info, creation, preupload, git-lfs batch, upload and verify, commit, and resolve with
ranges and entity tags. Files are kept as commits; large ones in a store by digest, as git-lfs has them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens: of one who may do all, and of one who may read."""


class Dataset:
    """A repository: commits, the newest last."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: list[dict[str, bytes]] = [{".gitattributes": b""}]

    def sha(self, number: int = -1) -> str:
        number %= len(self.commits)
        listing = [
            (name, hashlib.sha256(data).hexdigest()) for name, data in sorted(self.commits[number].items())
        ]
        return hashlib.sha1(json.dumps([number, listing]).encode()).hexdigest()

    def at(self, revision: str) -> dict[str, bytes] | None:
        if revision == "main":
            return self.commits[-1]
        return next((own for i, own in enumerate(self.commits) if self.sha(i) == revision), None)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]


class Hub(ThreadingHTTPServer):
    """The server; use as a context. `faults` are what goes wrong, by what is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.datasets: dict[str, Dataset] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.downloads: list[tuple[str, str]] = []
        """(name, its Range) of every GET of a file."""
        self.refuse_upload_after: int | None = None
        self.break_off: dict[str, int] = {}
        """Name of a file -> after so many of its bytes the connection is closed, once."""
        self.refused: set[str] = set()
        """Names of files that are not given."""
        self.sent_instead: dict[str, bytes] = {}
        """Name of a file -> what is sent in its place, under its own entity tag."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    # --- answers

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def known_token(self) -> bool:
        if self.token() in ("", WRITER, READER):
            return True
        self.refuse(401, "", "Invalid credentials in Authorization header")
        return False

    def dataset(self, name: str) -> Dataset | None:
        """The dataset, where it is there and may be seen."""
        if not self.known_token():
            return None
        found = self.server.datasets.get(name)
        if found is None or (found.private and not self.token()):
            self.refuse(404 if self.token() else 401, "RepoNotFound", "Repository not found")
            return None
        return found

    def may_write(self) -> bool:
        if self.token() == WRITER:
            return True
        self.refuse(403, "", "You don't have the rights to write")
        return False

    # --- requests

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(*match.groups())
        else:
            self.refuse(404, "", f"no such page: {path}")

    def info(self, name: str, revision: str) -> None:
        if (found := self.dataset(name)) is None:
            return
        files = found.at(revision)
        if files is None:
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        card = files.get("README.md", b"").decode()
        license = re.search(r"^license: (\S+)$", card, re.MULTILINE)
        blobs = "blobs" in parse_qs(urlparse(self.path).query)
        siblings = [
            {"rfilename": each, **({"size": len(data)} if blobs else {})}
            for each, data in sorted(files.items())
        ]
        sha = next(found.sha(i) for i, own in enumerate(found.commits) if own is files)
        self.answer(200, {
            "_id": "1", "id": name, "sha": sha, "private": found.private, "gated": False, "disabled": False, "downloads": 0,
            "likes": 0, "tags": [], "siblings": siblings, **({"cardData": {"license": license[1]}} if license else {}),
        })  # fmt: skip

    def file(self, name: str, revision: str, path: str) -> None:
        if (found := self.dataset(name)) is None:
            return
        files = found.at(revision)
        if files is None or path not in files:
            self.refuse(404, "EntryNotFound" if files else "RevisionNotFound", "Entry not found")
            return
        data = files[path]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X_Repo_Commit": revision if revision != "main" else found.sha(),
            "Accept_Ranges": "bytes",
        }
        data = self.server.sent_instead.get(path, data)
        asked = self.headers.get("Range") or ""
        if self.command == "GET":
            self.server.downloads.append((path, asked))
        start = int(asked.removeprefix("bytes=").partition("-")[0] or 0) if asked else 0
        if self.command == "GET" and path in self.server.refused:
            self.refuse(403, "", "Not now")
            return
        if self.command == "GET" and path in self.server.break_off:
            limit = self.server.break_off.pop(path)
            self.send_response(206 if asked else 200)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:limit])
            self.close_connection = True
            return
        if asked:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206 if asked else 200, data[start:], **headers)

    def do_POST(self) -> None:
        path, body = unquote(urlparse(self.path).path), self.body()
        if not self.known_token():
            return
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/([^/]+)", path):
            self.preupload(match[1], json.loads(body))
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(match[1], json.loads(body))
        elif path == "/verify":
            asked = json.loads(body)
            there = self.server.objects.get(asked["oid"])
            self.answer(200 if there is not None and len(there) == asked["size"] else 422, {})
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/([^/]+)", path):
            self.commit(match[1], body.decode())
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        else:
            self.refuse(404, "", f"no such page: {path}")

    def do_PUT(self) -> None:
        data, oid = self.body(), self.path.rpartition("/")[2]
        if self.server.refuse_upload_after == len(self.server.uploads):
            self.refuse(403, "", "The upload was refused")
            return
        if hashlib.sha256(data).hexdigest() != oid:
            self.refuse(400, "", "The digest differs")
            return
        self.server.objects[oid] = data
        self.server.uploads.append(oid)
        self.answer(200, {})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if not self.may_write():
            return
        if name in self.server.datasets:
            self.answer(
                409,
                {
                    "error": "You already created this dataset repo",
                    "url": f"{self.server.url}/datasets/{name}",
                },
            )
            return
        private = asked.get("private", asked.get("visibility") == "private")
        self.server.datasets[name] = Dataset(bool(private))
        self.answer(200, {"url": f"{self.server.url}/datasets/{name}", "name": name})

    def preupload(self, name: str, asked: dict[str, Any]) -> None:
        if (found := self.dataset(name)) is None or not self.may_write():
            return
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(".h5") else "regular",
                "shouldIgnore": False,
                "oid": hashlib.sha1(b"blob %d\0" % len(found.files[each["path"]]) + found.files[each["path"]]).hexdigest()
                if each["path"] in found.files else None,
            }
            for each in asked["files"]
        ]  # fmt: skip
        self.answer(200, {"files": files})

    def batch(self, name: str, asked: dict[str, Any]) -> None:
        if self.dataset(name) is None or not self.may_write():
            return
        objects = []
        for each in asked["objects"]:
            if each["oid"] not in self.server.objects:
                upload = {"href": f"{self.server.url}/upload/{each['oid']}", "header": {}}
                each = {
                    **each,
                    "actions": {"upload": upload, "verify": {"href": f"{self.server.url}/verify"}},
                }
            objects.append(each)
        self.answer(
            200, {"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json"
        )

    def commit(self, name: str, body: str) -> None:
        if (found := self.dataset(name)) is None or not self.may_write():
            return
        files = dict(found.files)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit") not in (None, found.sha()):
                self.refuse(412, "", "A commit has happened since")
                return
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            if entry["key"] == "deletedFile":
                del files[value["path"]]
        found.commits.append(files)
        url = f"{self.server.url}/datasets/{name}/commit/{found.sha()}"
        self.answer(200, {"success": True, "commitOid": found.sha(), "commitUrl": url})
