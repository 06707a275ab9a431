"""A Hub on this machine: the part of its HTTP interface that uploads and downloads of models use, and its failures.

Repositories live in memory. A commit is applied as a whole, or not at all. Large files go by LFS. On the real Hub they
go by Xet, with servers and a binary client of its own, which cannot be imitated here: that path is not tested.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

OWNER, TOKEN = "somebody", "hf_loopbackloopbackloopbackloopback"
# Names that the Hub keeps for its own pages.
RESERVED = ("models", "datasets", "settings")
_LFS = (".safetensors", ".bin", ".h5")


@dataclass
class Commit:
    """The state of a branch: {path: content}, of which `lfs` are stored outside git."""

    oid: str
    message: str
    files: dict[str, bytes]
    lfs: set[str]


@dataclass
class Repository:
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def head(self, revision: str) -> Commit | None:
        for commits in self.branches.values():
            for commit in commits:
                if commit.oid == revision:
                    return commit
        return self.branches[revision][-1] if revision in self.branches else None


class LoopbackHub:
    """The state of the server, its address, and the failures to come.

    Attributes:
        repositories: by OWNER/NAME. A new one has an initial commit with .gitattributes, as on the Hub.
        requests: "METHOD route" of each request, in order.
        tokens: the values of the authorization headers.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.lock = threading.Lock()
        self._failures: dict[str, list[int]] = {}
        self.lost: set[str] = set()

    def fail(self, route: str, status: int, times: int = 1000, *, lost: bool = False) -> None:
        """Answer the next requests to a route with a status; 0 breaks the connection half-way.

        Args:
            lost: do what was asked for first, so that only the answer is lost.
        """
        self._failures[route] = [status, times]
        if lost:
            self.lost.add(route)

    def repair(self) -> None:
        """End all failures and forget the requests."""
        self._failures.clear()
        self.lost.clear()
        self.requests.clear()

    def next_failure(self, route: str) -> int | None:
        failure = self._failures.get(route)
        if failure is None or failure[1] == 0:
            return None
        failure[1] -= 1
        return failure[0]

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a branch without those of a new repository; {} if there is no such branch."""
        head = self.repositories[repository].head(revision) if repository in self.repositories else None
        return {} if head is None else {path: data for path, data in head.files.items() if path != ".gitattributes"}

    def commits(self, repository: str, revision: str = "main") -> list[str]:
        """Return the messages of a branch's commits after the initial one."""
        found = self.repositories.get(repository)
        return [commit.message for commit in found.branches.get(revision, [])[1:]] if found else []


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _etag(commit: Commit, path: str) -> str:
    content = commit.files[path]
    return hashlib.sha256(content).hexdigest() if path in commit.lfs else git_oid(content)


# Routes: name -> method and pattern.
_ROUTES = {
    "whoami": ("GET", r"/api/whoami-v2"),
    "create": ("POST", r"/api/repos/create"),
    "validate": ("POST", r"/api/validate-yaml"),
    "branch": ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<revision>[^/]+)"),
    "preupload": ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)"),
    "commit": ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)"),
    "paths": ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)"),
    "tree": ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)"),
    "info": ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?"),
    "batch": ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    "put": ("PUT", r"/objects/(?P<oid>[0-9a-f]{64})"),
    "resolve": ("GET|HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise each answer waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True
    hub: LoopbackHub
    lost_answer: int | None = None

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        path = unquote(address.path)
        # Branches may contain encoded slashes, so the values are decoded after the match.
        routes = ((name, re.fullmatch(pattern, address.path)) for name, (methods, pattern) in _ROUTES.items()
                  if self.command in methods.split("|"))  # fmt: skip
        name, found = next(((name, found) for name, found in routes if found), ("", None))
        if found is None:
            self._body()
            return self._error(404, f"no route for {self.command} {path}")
        values = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
        self.hub.requests.append(f"{self.command} {name}")
        if "Authorization" in self.headers:
            self.hub.tokens.add(self.headers["Authorization"])
        # Only the content of a download breaks, not the question for its size.
        failure = None if self.command == "HEAD" else self.hub.next_failure(name)
        lost = failure is not None and name in self.hub.lost
        if failure == 0 and not lost:
            return self._break(name, values)
        body = self._body()
        if failure is not None and not lost:
            return self._error(failure, "as asked by the test")
        self.lost_answer = failure if lost else None
        repo = values.get("repo")
        may_write = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        needs_token = self.command not in ("GET", "HEAD") and name not in ("put", "paths", "validate")
        if (needs_token or name == "whoami") and not may_write:
            return self._error(401, "Invalid username or password.")
        with self.hub.lock:
            known = self.hub.repositories.get(repo or "")
            if repo is not None and (known is None or (known.private and not may_write)):
                return self._error(401 if not may_write else 404, "Repository not found", "RepoNotFound")
            getattr(self, f"_{name}")(body, **values)
        return None

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _break(self, name: str, values: dict[str, str]) -> None:
        """Close the connection after half of the request, or of the answer to a download."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        if name == "resolve":
            content = self.hub.files(values["repo"], values["revision"])[values["path"]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def _answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        failure, self.lost_answer = self.lost_answer, None
        if failure is not None:
            return self._cut() if failure == 0 else self._error(failure, "as asked by the test")
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, header in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, header)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    def _error(self, status: int, message: str, code: str = "", **more: Any) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._answer({"error": message, **more}, status, headers)

    def _whoami(self, body: bytes) -> None:
        self._answer({"type": "user", "name": OWNER, "orgs": [], "auth": {}})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        owner, name = asked.get("organization") or OWNER, asked["name"]
        if owner != OWNER:
            return self._error(403, f"You don't have the rights to create a model under {owner}")
        if name in RESERVED:
            return self._error(400, f"Invalid name: {name} is reserved")
        repo, url = f"{owner}/{name}", f"{self.hub.address}/{owner}/{name}"
        if repo in self.hub.repositories:
            return self._error(409, "You already created this model repo", url=url)
        private = asked.get("visibility") == "private"
        first = Commit(hashlib.sha1(repo.encode()).hexdigest(), "initial commit", {".gitattributes": b""}, set())
        self.hub.repositories[repo] = Repository(private, {"main": [first]})
        return self._answer({"url": url, "name": repo})

    def _branch(self, body: bytes, repo: str, revision: str) -> None:
        branches = self.hub.repositories[repo].branches
        if revision in branches:
            return self._error(409, "Reference already exists")
        branches[revision] = list(branches["main"])
        return self._answer({})

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        found = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        try:
            data = yaml.safe_load(found[1]) if found else {}
        except yaml.YAMLError:
            data = None
        wrong = [] if isinstance(data, dict) else ["not a YAML object"]
        if isinstance(data, dict) and not isinstance(data.get("license", ""), (str, list)):
            wrong.append('"license" must be a string')
        if isinstance(data, dict) and str(data.get("base_model", "")).startswith("/"):
            wrong.append('"base_model" with a local path is not valid')
        errors = [{"message": text} for text in wrong]
        self._answer({"errors": errors, "warnings": []}, 400 if wrong else 200)

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        head = self.hub.repositories[repo].head(revision)
        if head is None:
            return self._error(404, "Invalid rev id", "RevisionNotFound")
        asked = json.loads(body)
        rules = asked.get("gitIgnore") or head.files.get(".gitignore", b"").decode()
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LFS) else "regular",
                "shouldIgnore": any(fnmatchcase(file["path"], rule) for rule in rules.splitlines()),
                "oid": _etag(head, file["path"]) if file["path"] in head.files else None,
            }
            for file in asked["files"]
        ]
        return self._answer({"files": files})

    def _batch(self, body: bytes, repo: str) -> None:
        objects = []
        for item in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.address}/objects/{item['oid']}"}}
            known = item["oid"] in self.hub.objects
            objects.append({"oid": item["oid"], "size": item["size"], **({} if known else {"actions": upload})})
        self._answer({"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._error(400, "the content has another checksum")
        self.hub.objects[oid] = body
        return self._answer({})

    def _commit(self, body: bytes, repo: str, revision: str) -> None:
        repository = self.hub.repositories[repo]
        head = repository.head(revision)
        if head is None:
            return self._error(404, "Invalid rev id", "RevisionNotFound")
        files, lfs, header = dict(head.files), set(head.lfs), {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                lfs.discard(value["path"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return self._error(400, f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
                lfs.add(value["path"])
            else:
                return self._error(400, f"unknown operation {item['key']}")
        if header.get("parentCommit", head.oid) != head.oid:
            return self._error(412, "A commit has happened since")
        oid = hashlib.sha1(body + head.oid.encode()).hexdigest()
        repository.branches[revision].append(Commit(oid, header["summary"], files, lfs))
        return self._answer(
            {"commitUrl": f"{self.hub.address}/{repo}/commit/{oid}", "commitOid": oid, "success": True}
        )

    def _entries(self, head: Commit) -> list[dict[str, Any]]:
        entries = []
        for path, content in sorted(head.files.items()):
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if path in head.lfs:
                entry["lfs"] = {
                    "oid": _etag(head, path),
                    "sha256": _etag(head, path),
                    "size": len(content),
                    "pointerSize": 134,
                }
            entries.append(entry)
        return entries

    def _tree(self, body: bytes, repo: str, revision: str) -> None:
        head = self.hub.repositories[repo].head(revision)
        if head is None:
            return self._error(404, "Invalid rev id", "RevisionNotFound")
        return self._answer(self._entries(head))

    def _paths(self, body: bytes, repo: str, revision: str) -> None:
        head = self.hub.repositories[repo].head(revision)
        paths = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
        self._answer([entry for entry in self._entries(head) if entry["path"] in paths] if head else [])

    def _info(self, body: bytes, repo: str, revision: str = "main") -> None:
        repository = self.hub.repositories[repo]
        head = repository.head(revision)
        if head is None:
            return self._error(404, "Invalid rev id", "RevisionNotFound")
        files = [{"rfilename": entry["path"], **entry} for entry in self._entries(head)]
        return self._answer({"id": repo, "modelId": repo, "sha": head.oid, "private": repository.private,
                             "siblings": files, "tags": []})  # fmt: skip

    def _resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        head = self.hub.repositories[repo].head(revision)
        if head is None:
            return self._error(404, "Invalid rev id", "RevisionNotFound")
        if path not in head.files:
            self.send_response(404)
            for name, value in {"X-Repo-Commit": head.oid, "X-Error-Code": "EntryNotFound",
                                "X-Error-Message": "Entry not found", "Content-Length": "0"}.items():  # fmt: skip
                self.send_header(name, value)
            return self.end_headers()
        content, etag = head.files[path], _etag(head, path)
        headers = {"X-Repo-Commit": head.oid, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if path in head.lfs:
            # The Hub redirects to another host, with the same content.
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        return self._content(content, headers)

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        headers["Content-Type"] = "application/octet-stream"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self._answer(content, 200, headers)
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return self._answer(content[start : end + 1], 206, headers)


@contextlib.contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """Serve an empty Hub in a thread."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.hub = LoopbackHub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
