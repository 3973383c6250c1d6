"""A stand-in for the W&B server on this machine: answers as much as a run needs, and keeps what it was sent."""

import gzip
import json
import re
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

API_KEY = "0" * 40


class Server(ThreadingHTTPServer):
    """Runs in a thread of its own while it is entered.

    Attributes:
        requests: path of every request.
        calls: variables of every GraphQL call, by operation.
        streams: bodies sent to the file stream, by run.
        uploads: bytes of uploaded files, by what they were called.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests, self.calls, self.streams, self.uploads = [], defaultdict(list), defaultdict(list), {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *connection):
        """A client that ends need not say so."""

    def __enter__(self):
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def lines(self, run, file="wandb-history.jsonl"):
        """Lines of a file that were streamed to a run, by their places; the last to come to a place stays."""
        lines = {}
        for body in self.streams[run]:
            if part := body.get("files", {}).get(file):
                lines |= {part["offset"] + i: json.loads(line) for i, line in enumerate(part["content"])}
        return [lines[place] for place in sorted(lines)]

    def exit_codes(self, run):
        """One for each time the run has ended."""
        return [body["exitcode"] for body in self.streams[run] if body.get("complete")]

    def answer(self, operation, variables):
        """Data for a GraphQL call."""
        self.calls[operation].append(variables)
        match operation:
            case "Viewer" | "GetDefaultEntity":
                return {"viewer": {"id": "V", "entity": "someone", "username": "someone", "email": "", "flags": "{}",
                                   "teams": {"edges": []}}}  # fmt: skip
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "UpsertView2":
                return {"upsertView": {"view": {"id": "W", "name": variables["name"]}, "inserted": True}}
            case "UpsertBucket":
                inserted = variables["name"] not in {call["name"] for call in self.calls[operation][:-1]}
                return {"upsertBucket": {"bucket": self._bucket(variables), "inserted": inserted}}
            case "RunResumeStatus":
                return {"model": {"id": "P", "name": variables["project"], "entity": {"id": "E", "name": "someone"},
                                  "bucket": self._resumed(variables["name"])}}  # fmt: skip
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "CreateArtifact":
                name = variables["input"]["artifactCollectionName"]
                return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": {
                    "latestArtifact": None}}}}  # fmt: skip
            case "CreateArtifactManifest" | "UpdateArtifactManifest":
                name = variables.get("artifactID") or variables["artifactManifestID"]
                file = {"id": "F", "name": "manifest", "displayName": "manifest", "uploadHeaders": [],
                        "uploadUrl": f"{self.url}/upload/{name}/manifest"}  # fmt: skip
                return {f"{operation[0].lower()}{operation[1:]}": {"artifactManifest": {"id": name, "file": file}}}
            case "CreateArtifactFiles":
                nodes = [{"id": "F", "name": f["name"], "displayName": f["name"], "uploadHeaders": [],
                          "uploadMultipartUrls": None, "storagePath": f["name"], "artifact": {"id": f["artifactID"]},
                          "uploadUrl": f"{self.url}/upload/{f['artifactID']}/{f['name']}"}
                         for f in variables["input"]["artifactFiles"]]  # fmt: skip
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}
            case "CreateRunFiles":
                return {"createRunFiles": {"runID": "R", "uploadHeaders": [], "files": [
                    {"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]
                ]}}  # fmt: skip
        return {}

    def _bucket(self, variables):
        name, project = variables["name"], variables["project"]
        return {"id": f"id-{name}", "name": name, "displayName": variables["displayName"], "description": None,
                "config": variables["config"], "sweepName": None, "historyLineCount": len(self.lines(name)),
                "project": {"id": "P", "name": project, "entity": {"id": "E", "name": "someone"}}}  # fmt: skip

    def _resumed(self, run):
        """What a client has to know that goes on with a run; None where there is none."""
        before = [call for call in self.calls["UpsertBucket"] if call["name"] == run]
        if not before:
            return None
        history = self.lines(run)
        return {"id": f"id-{run}", "name": run, "displayName": before[0]["displayName"], "summaryMetrics": "{}",
                "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "historyLineCount": len(history),
                "historyTail": json.dumps([json.dumps(history[-1])] if history else []), "config": "{}", "tags": [],
                "notes": None, "wandbConfig": "{}"}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(self.path)
        answer = {}
        if self.path == "/graphql":
            call = json.loads(body)
            operation = re.search(r"\w+", call["query"].split("query", 1)[-1].split("mutation", 1)[-1])[0]
            answer = {"data": self.server.answer(operation, call.get("variables", {}))}
        elif self.path.endswith("/file_stream"):
            self.server.streams[self.path.split("/")[-2]].append(json.loads(body))
        elif self.path.startswith("/upload/"):
            self.server.uploads[self.path.removeprefix("/upload/")] = body
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, *words):
        pass
