import hashlib
import io
import re
import tarfile
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mmcse.cli import main
from mmcse.data import download as downloads
from mmcse.data import unpack as unpacking
from mmcse.data.annotations import AUDIO_FILE, KNOWN_FILES, ORIGINAL_AUDIO_FILE, VISUAL_FILE, WEAK_FILES, identify
from mmcse.data.download import ARCHIVES, Drive, Hub, Web, download_annotations, download_checkpoint, download_features
from mmcse.data.unpack import is_archive, unpack
from mmcse.errors import UserError

pytest.importorskip("pooch", reason="downloads need mmcse[download]")
pytest.importorskip("gdown", reason="downloads need mmcse[download]")
pytest.importorskip("huggingface_hub", reason="downloads need mmcse[download]")

CONTENT = bytes(range(256)) * 4000
LARGE = CONTENT * 30
"""More than the chunks in which the clients write."""


class Server:
    """A local server of files, each with a list of what it does wrong before it behaves.

    Faults, one for each GET: a status such as 404 or 429, or "cut" for a body that breaks off in the middle. The
    headers of the Hugging Face hub are given for every file, so that its client takes the server for the hub.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                wanted = self.headers.get("Range")
                outer.requests.append((self.command, self.path, wanted))
                content = outer.files.get(self.path)
                faults = outer.faults.get(self.path, [])
                fault = faults.pop(0) if faults and body else None
                if content is None or isinstance(fault, int):
                    self.send_response(404 if content is None else fault)
                    if content is None:
                        self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and body else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("Accept-Ranges", "bytes")
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.end_headers()
                self.close_connection = True
                if body:
                    content = content[start:]
                    with suppress(ConnectionError):  # a client may leave when it has seen the headers
                        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def put(self, path, content, *faults):
        self.files[path], self.faults[path] = content, list(faults)
        return f"{self.url}{path}"

    def gets(self, path):
        """The ranges that were asked for, one for each transfer."""
        return [wanted for method, where, wanted in self.requests if method == "GET" and where == path]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    running = Server()
    monkeypatch.setattr(downloads, "RETRIES", 0)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
    template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield running
    running.close()


def checksum(content):
    return hashlib.sha256(content).hexdigest()


class TestWeb:
    def test_a_file_is_fetched_once(self, server, tmp_path):
        source = Web("a.csv", server.put("/a.csv", CONTENT), (checksum(CONTENT),))
        assert source.fetch(tmp_path).read_bytes() == CONTENT
        assert source.fetch(tmp_path) == tmp_path / "a.csv"
        assert server.gets("/a.csv") == [None]

    def test_a_wrong_checksum(self, server, tmp_path):
        source = Web("a.csv", server.put("/a.csv", CONTENT + b"!"), (checksum(CONTENT),))
        with pytest.raises(UserError, match=r"checksum differs.*with a browser"):
            source.fetch(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_file_is_replaced(self, server, tmp_path):
        (tmp_path / "a.csv").write_bytes(CONTENT[:100])
        Web("a.csv", server.put("/a.csv", CONTENT), (checksum(CONTENT),)).fetch(tmp_path)
        assert (tmp_path / "a.csv").read_bytes() == CONTENT

    def test_a_body_that_breaks_off_is_fetched_again(self, server, tmp_path, monkeypatch):
        source = Web("a.csv", server.put("/a.csv", CONTENT, "cut"), (checksum(CONTENT),))
        monkeypatch.setattr(downloads, "RETRIES", 1)
        assert source.fetch(tmp_path).read_bytes() == CONTENT

    def test_a_body_that_always_breaks_off(self, server, tmp_path):
        source = Web("a.csv", server.put("/a.csv", CONTENT, "cut"))
        with pytest.raises(UserError, match="did not arrive"):
            source.fetch(tmp_path)
        assert not (tmp_path / "a.csv").exists()

    @pytest.mark.parametrize(
        ("status", "words"),
        [(404, "is gone from there"), (410, "is gone"), (429, "quota"), (403, "quota"), (500, "500")],
    )
    def test_what_the_server_refuses(self, server, tmp_path, status, words):
        source = Web("a.csv", server.put("/a.csv", CONTENT, status))
        with pytest.raises(UserError, match=words) as caught:
            source.fetch(tmp_path)
        assert f"save it as {tmp_path / 'a.csv'}, and run the same command again" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_nobody_answers(self, tmp_path, server):
        server.close()
        with pytest.raises(UserError, match="did not arrive"):
            Web("a.csv", f"{server.url}/a.csv").fetch(tmp_path)

    def test_fetched_by_hand(self, tmp_path, server):
        (tmp_path / "a.csv").write_bytes(CONTENT)
        Web("a.csv", f"{server.url}/none", (checksum(CONTENT),)).fetch(tmp_path)
        assert server.requests == []


class TestDrive:
    def test_a_transfer_is_resumed(self, server, tmp_path):
        source = Drive("features", server.put("/uc", LARGE, "cut"))
        with pytest.raises(UserError, match="goes on with what has"):
            source.fetch(tmp_path)
        assert source.fetch(tmp_path).read_bytes() == LARGE
        *_, resumed = transfers = server.gets("/uc")
        assert 0 < int(resumed.removeprefix("bytes=").rstrip("-")) <= len(LARGE) // 2
        source.fetch(tmp_path)
        assert server.gets("/uc") == transfers

    @pytest.mark.parametrize(("status", "words"), [(404, "gone"), (429, "quota")])
    def test_what_the_server_refuses(self, server, tmp_path, status, words):
        with pytest.raises(UserError, match=words):
            Drive("features", server.put("/uc", CONTENT, status)).fetch(tmp_path)

    def test_the_quota_of_google_drive(self, tmp_path, monkeypatch):
        import gdown

        def refuse(*_, **__):
            raise gdown.exceptions.FileURLRetrievalError("Too many users have viewed\nor downloaded this file recently")

        monkeypatch.setattr(gdown, "download", refuse)
        with pytest.raises(UserError, match=r"quota.*https://drive\.google\.com/uc\?id=x.*save it as"):
            Drive("features", "https://drive.google.com/uc?id=x").fetch(tmp_path)


class TestHub:
    PATH = "/datasets/owner/name/resolve/main/CLIP.zip"

    def test_a_file_is_fetched_once(self, server, tmp_path):
        server.put(self.PATH, CONTENT)
        source = Hub("CLIP.zip", "owner/name", "dataset")
        assert source.fetch(tmp_path).read_bytes() == CONTENT
        assert source.fetch(tmp_path) == tmp_path / "CLIP.zip"
        assert len(server.gets(self.PATH)) == 1
        assert source.page == "https://huggingface.co/datasets/owner/name"

    def test_a_transfer_is_resumed(self, server, tmp_path):
        server.put(self.PATH, LARGE, "cut")
        Hub("CLIP.zip", "owner/name", "dataset").fetch(tmp_path)  # the client itself tries again
        assert (tmp_path / "CLIP.zip").read_bytes() == LARGE
        ranges = server.gets(self.PATH)
        assert len(ranges) == 2
        assert re.fullmatch(r"bytes=\d+-.*", ranges[1])

    def test_a_file_that_is_gone(self, server, tmp_path):
        with pytest.raises(UserError, match="is gone from there"):
            Hub("CLIP.zip", "owner/name", "dataset").fetch(tmp_path)


def npy(number=0.0, shape=(10, 4)):
    buffer = io.BytesIO()
    np.save(buffer, np.full(shape, number, np.float32))
    return buffer.getvalue()


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def linked(path, target="/etc/passwd", kind=tarfile.SYMTYPE):
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("CLIP/features/aaaaaaaaaaa.npy")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


PACK = pytest.mark.parametrize("pack", [zipped, tarred])
WANTED = ["CLIP/features", "feats/r2plus1d_18"]


class TestUnpack:
    @PACK
    def test_the_wanted_folders_come_out_wherever_they_are(self, tmp_path, pack):
        members = {
            "data/CLIP/features/aaaaaaaaaaa.npy": npy(1),
            "feats/r2plus1d_18/-_aaaaaaaaa.npy": npy(2),
            "feats/res152/aaaaaaaaaaa.npy": npy(3),
            "XCLIP/features/bbbbbbbbbbb.npy": npy(4),
            "CLIP/features/readme.txt": b"x",
            "__MACOSX/CLIP/features/._aaaaaaaaaaa.npy": b"x",
        }
        archive = pack(tmp_path / "archive", members)
        assert is_archive(archive)
        assert unpack(archive, tmp_path / "out", WANTED, progress=False) == 2
        assert files_below(tmp_path / "out") == ["CLIP/features/aaaaaaaaaaa.npy", "feats/r2plus1d_18/-_aaaaaaaaa.npy"]
        assert np.load(tmp_path / "out/feats/r2plus1d_18/-_aaaaaaaaa.npy").tolist() == np.full((10, 4), 2.0).tolist()

    @PACK
    def test_what_is_there_is_left_and_what_is_cut_off_is_mended(self, tmp_path, pack):
        archive = pack(tmp_path / "a", {f"CLIP/features/{c * 11}.npy": npy(i) for i, c in enumerate("abc")})
        unpack(archive, tmp_path / "out", WANTED, progress=False)
        first, second = (tmp_path / "out/CLIP/features" / f"{c * 11}.npy" for c in "ab")
        first.write_bytes(first.read_bytes()[:50])
        before = second.stat().st_mtime_ns
        assert unpack(archive, tmp_path / "out", WANTED, progress=False) == 1
        assert first.read_bytes() == npy(0)
        assert second.stat().st_mtime_ns == before

    @PACK
    @pytest.mark.parametrize(
        "name",
        [
            "../CLIP/features/aaaaaaaaaaa.npy",
            "CLIP/features/../../../evil.npy",
            "/CLIP/features/aaaaaaaaaaa.npy",
            "..\\CLIP\\features\\aaaaaaaaaaa.npy",
        ],
    )
    def test_names_that_lead_out(self, tmp_path, pack, name):
        archive = pack(tmp_path / "a", {name: npy(), "CLIP/features/bbbbbbbbbbb.npy": npy()})
        with pytest.raises(UserError, match="not to be trusted"):
            unpack(archive, tmp_path / "deep" / "out", WANTED, progress=False)
        assert files_below(tmp_path) == ["a"]

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
    def test_links_and_devices(self, tmp_path, kind):
        with pytest.raises(UserError, match="not to be trusted"):
            unpack(linked(tmp_path / "a", kind=kind), tmp_path / "out", WANTED, progress=False)

    def test_links_in_a_zip(self, tmp_path):
        info = zipfile.ZipInfo("CLIP/features/aaaaaaaaaaa.npy")
        info.external_attr = 0o120777 << 16
        with zipfile.ZipFile(tmp_path / "a", "w") as archive:
            archive.writestr(info, "/etc/passwd")
        with pytest.raises(UserError, match="is a link"):
            unpack(tmp_path / "a", tmp_path / "out", WANTED, progress=False)

    @PACK
    def test_files_of_absurd_size(self, tmp_path, pack, monkeypatch):
        monkeypatch.setattr(unpacking, "LARGEST_FILE", 1000)
        archive = pack(tmp_path / "a", {"CLIP/features/aaaaaaaaaaa.npy": bytes(1001)})
        with pytest.raises(UserError, match=r"is 1 kB, a file|is 1\.0"):
            unpack(archive, tmp_path / "out", WANTED, progress=False)
        monkeypatch.setattr(unpacking, "LARGEST_FILE", 2000)
        monkeypatch.setattr(unpacking, "LARGEST_ARCHIVE", 1000)
        with pytest.raises(UserError, match="would unpack to"):
            unpack(archive, tmp_path / "out", WANTED, progress=False)

    def test_a_size_that_lies(self, tmp_path):
        """A zip that says its file is small, and holds a large one, stops there."""
        archive = zipped(tmp_path / "a", {"CLIP/features/aaaaaaaaaaa.npy": bytes(100_000)})
        data = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
        archive.write_bytes(data)
        with pytest.raises(UserError, match="damaged"):
            unpack(archive, tmp_path / "out", WANTED, progress=False)
        assert files_below(tmp_path) == ["a"]

    @PACK
    def test_archives_that_are_damaged(self, tmp_path, pack):
        content = np.random.default_rng(0).bytes(50_000)
        archive = pack(tmp_path / "a", {"CLIP/features/aaaaaaaaaaa.npy": content, "feats/r2plus1d_18/b.npy": content})
        data = bytearray(archive.read_bytes())
        data[20_000:20_100] = bytes(100)
        archive.write_bytes(data)
        with pytest.raises(UserError, match=r"damaged.*run the same command again"):
            unpack(archive, tmp_path / "out", WANTED, progress=False)
        assert not list((tmp_path / "out").rglob("*.tmp"))

    @PACK
    def test_archives_of_something_else(self, tmp_path, pack):
        with pytest.raises(UserError, match=r"holds no \.npy file in any of the folders CLIP/features"):
            unpack(pack(tmp_path / "a", {"cats/1.jpg": b"x"}), tmp_path / "out", WANTED, progress=False)


class TestFeatures:
    @pytest.fixture
    def sources(self, server, tmp_path, monkeypatch):
        archives = {
            "CLIP.zip": zipped(
                tmp_path / "1", {f"CLIP/{f}/{'a' * 11}.npy": npy() for f in ("features", "segment_pseudo_labels")}
            ),
            "CLAP.zip": zipped(
                tmp_path / "2", {f"CLAP/{f}/{'a' * 11}.npy": npy() for f in ("features", "segment_pseudo_labels")}
            ),
            "LLP-features": tarred(
                tmp_path / "3", {f"feats/{f}/{'a' * 11}.npy": npy() for f in ("vggish", "res152", "r2plus1d_18")}
            ),
        }
        for name in ("CLIP.zip", "CLAP.zip"):
            server.put(f"/datasets/NTUBarista/valor_features/resolve/main/{name}", archives[name].read_bytes())
        drive = Drive("LLP-features", server.put("/uc", archives["LLP-features"].read_bytes()))
        monkeypatch.setattr(downloads, "FEATURES", (*downloads.FEATURES[:2], drive))
        return server

    @pytest.mark.parametrize("layout", ["valor", "llp"])
    def test_the_folders_of_a_layout_and_no_others(self, sources, tmp_path, layout):
        from mmcse.data.layouts import layout_named

        assert download_features(tmp_path / "out", layout, progress=False) == 5
        found = [name for name in files_below(tmp_path / "out") if name.endswith(".npy")]
        assert found == sorted(f"{stream.folder}/{'a' * 11}.npy" for stream in layout_named(layout).streams)

    def test_nothing_is_fetched_twice_even_without_the_archives(self, sources, tmp_path):
        download_features(tmp_path, "valor", progress=False)
        for source in downloads.FEATURES:
            (tmp_path / ARCHIVES / source.name).unlink()
        before = len(sources.requests)
        assert download_features(tmp_path, "valor", progress=False) == 0
        assert len(sources.requests) == before

    def test_a_page_in_place_of_an_archive(self, sources, tmp_path):
        sources.put("/uc", b"<html>Google Drive - Quota exceeded</html>")
        with pytest.raises(UserError, match=r"no archive but a page.*save it as"):
            download_features(tmp_path, "valor", progress=False)
        assert not (tmp_path / ARCHIVES / "LLP-features").exists()

    def test_the_command(self, sources, tmp_path, capsys):
        assert main(["data", "download", "features", "--layout", "llp", "--out", str(tmp_path / "out")]) == 0
        out = capsys.readouterr().out
        assert "5 files unpacked" in out
        assert f"mmcse data check {tmp_path / 'out'} --layout llp" in out


class TestAnnotations:
    def test_every_file_has_a_source_and_a_known_checksum(self):
        names = [source.name for source in downloads.ANNOTATIONS]
        assert set(names) >= {*WEAK_FILES.values(), AUDIO_FILE, ORIGINAL_AUDIO_FILE, VISUAL_FILE}
        assert {checksum for source in downloads.ANNOTATIONS for checksum in source.checksums} == set(KNOWN_FILES)
        assert [len(source.checksums) for source in downloads.ANNOTATIONS][-2:] == [1, 1]
        assert len({source.url for source in downloads.ANNOTATIONS}) == len(names) == 7

    def test_the_real_files(self, shared, server, tmp_path, monkeypatch, capsys):
        """All seven, from a server that has them where the repository does."""
        sources = []
        for source in downloads.ANNOTATIONS:
            url = server.put(source.url.removeprefix(downloads._LLP), (shared / "llp" / source.name).read_bytes())
            sources.append(Web(source.name, url, source.checksums))
        monkeypatch.setattr(downloads, "ANNOTATIONS", tuple(sources))
        assert main(["data", "download", "annotations", "--out", str(tmp_path)]) == 0
        assert identify(tmp_path / ORIGINAL_AUDIO_FILE) == "LLP as used by published numbers"
        assert identify(tmp_path / AUDIO_FILE) == "LLP as corrected later"
        assert len(capsys.readouterr().out.splitlines()) == 7

    def test_a_changed_file_is_refused(self, server, tmp_path, monkeypatch, capsys):
        source = Web("AVVP_train.csv", server.put("/x", b"filename\tevent_labels\n"), tuple(KNOWN_FILES))
        monkeypatch.setattr(downloads, "ANNOTATIONS", (source,))
        with pytest.raises(UserError, match="checksum differs"):
            download_annotations(tmp_path)


class TestCheckpoints:
    def test_mmcse(self, server, tmp_path, monkeypatch, capsys):
        url = server.put("/checkpoint_best.pth", b"PK" + CONTENT)
        monkeypatch.setitem(downloads.CHECKPOINTS, "mmcse", (Web("checkpoint_best.pth", url),))
        assert main(["data", "download", "checkpoint", "--out", str(tmp_path)]) == 0
        path = tmp_path / "checkpoint_best.pth"
        assert path.read_bytes() == b"PK" + CONTENT
        assert f"mmcse import {path}" in capsys.readouterr().out

    def test_valor(self, server, tmp_path):
        for name in ("model_VALOR", "model_VALOR%2B", "model_VALOR%2B%2B"):
            server.put(f"/NTUBarista/valor_trained_models/resolve/main/{name}/checkpoint_best.pt", CONTENT)
        paths = download_checkpoint(tmp_path, "valor")
        assert [path.parent.name for path in paths] == ["model_VALOR", "model_VALOR+", "model_VALOR++"]

    @pytest.mark.parametrize("page", [b"\n<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1"])
    def test_a_page_in_its_place(self, server, tmp_path, monkeypatch, page):
        source = Web("checkpoint_best.pth", server.put("/c", page))
        monkeypatch.setitem(downloads.CHECKPOINTS, "mmcse", (source,))
        with pytest.raises(UserError, match="a page in place of"):
            download_checkpoint(tmp_path, "mmcse")
        assert list(tmp_path.iterdir()) == []


def test_a_client_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(UserError, match=r"pip install 'mmcse\[download\]'"):
        Web("a", "http://127.0.0.1:9/a").fetch(Path(tmp_path))
