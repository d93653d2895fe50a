"""The server of action=choose: what it shows, what it writes down, what it refuses. No browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers.fake_sweep import EVIL, FakeSweep, scored
from PIL import Image

from charsweep.__main__ import main
from charsweep.actions.choose.app import make_app, page_files
from charsweep.actions.choose.progress import is_running, seconds_left, share_trained
from charsweep.actions.choose.reader import Reader
from charsweep.actions.choose.thumbnails import SIZE, Thumbnails
from charsweep.actions.choose.voting import Voting
from charsweep.core.system.locks import locked
from charsweep.results.votes import FILE, Votes

URL = "http://127.0.0.1:5999"
RATES = [1e-4, 1e-3, 1e-2, 1e-1]


@pytest.fixture
def sweep(tmp_path: Path) -> FakeSweep:
    """Three cells that were drawn, one that diverged, two that wait."""
    fake = FakeSweep(tmp_path, {"lr": RATES, "train_steps": [20, 40]})
    for number, rate in enumerate(RATES[:3]):
        fake.add(lr=rate, train_steps=40, scores=scored(0.3 + 0.2 * number))
    fake.add(state="diverged", lr=RATES[3], train_steps=40)
    fake.write()
    return fake


def client_of(sweep: FakeSweep, origin: str | None = URL) -> TestClient:
    """A page of the server itself, or of elsewhere."""
    reader = Reader(sweep.folder, sweep.store)
    app, _ = make_app(reader, Voting(Votes(sweep.folder / FILE), "ann"), 5999)
    client = TestClient(app, base_url=URL)
    if origin:
        client.headers["Origin"] = origin
    return client


@pytest.fixture
def client(sweep: FakeSweep) -> Iterator[TestClient]:
    with client_of(sweep) as client:
        yield client


def vote(client: TestClient, answer: str = "left", **changed: Any) -> Any:
    """The answer to a vote on the next pair."""
    pair = client.get("/api/pair").json()
    asked = {name: pair[name] for name in ("id", "prompt", "seed")}
    asked |= {side: pair[side]["cell"] for side in ("left", "right")}
    asked |= {"seconds": 1.5, "answer": answer}
    return client.post("/api/votes", json=asked | changed)


# -- looking ---------------------------------------------------------------------------------------


def test_the_page_is_whole_and_asks_nobody_else(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="(/page/[^"]+)"', page.text)
    assert len(named) == 3
    assert all(client.get(name).status_code == 200 for name in named)
    for name, file in page_files().items():
        text = file.content.decode()
        places = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)
        assert set(places) <= {"http://www.w3.org"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        for module in re.findall(r'from "\./([^"]+)"', text):
            assert module in page_files(), f"{name} imports {module}"


def test_every_cell_is_there_with_its_place(client: TestClient) -> None:
    shown = client.get("/api/sweep").json()
    assert [axis["values"] for axis in shown["axes"]] == [
        ["1e-4", "1e-3", "1e-2", "1e-1"],
        ["20", "40"],
    ]
    assert [cell["at"] for cell in shown["cells"]] == [[0, 1], [1, 1], [2, 1], [3, 1]]
    assert [cell["state"] for cell in shown["cells"]] == ["finished"] * 3 + ["diverged"]
    (exam,) = shown["exams"]
    assert exam["best"] == "000000000002"
    assert "1e-2 · 40 training steps is recommended" in exam["title"]
    assert [one["name"] for one in exam["references"]] == ["true picture", "untaught base"]
    assert [drawing["caption"] for drawing in exam["drawings"]] == [EVIL]  # the other is gone


def test_what_is_known_of_a_cell(client: TestClient) -> None:
    known = client.get("/api/cells/000000000001").json()
    assert known["title"] == "Learning rate 1e-3 · 40 training steps"
    assert known["place"] == "2 of 3"
    assert known["command"].endswith("action=export name=fake export.cell=000000000001")
    score = next(one for one in known["scores"] if one["label"] == "score")
    assert score["text"] == "0.500"
    assert score["images"] == [[0.47, 0.49], [0.51, 0.53]]
    bad = client.get("/api/cells/000000000003").json()
    assert bad["note"] == "the loss stopped being finite at step 23"
    assert not bad["command"]


def test_images_whole_and_small(client: TestClient, sweep: FakeSweep) -> None:
    cell = client.get("/api/sweep").json()["cells"][0]
    large = sweep.store / sweep.cells[0]["images"] / "001.png"
    Image.new("RGB", (900, 450), "teal").save(large)
    whole = client.get(f"/images/{cell['images']}/1")
    assert whole.content == large.read_bytes()
    assert whole.headers["content-type"] == "image/png"
    assert "immutable" in whole.headers["cache-control"]
    small = client.get(f"/thumbnails/{cell['images']}/1")
    with Image.open(io.BytesIO(small.content)) as image:
        assert image.size == (SIZE, SIZE // 2)
    kept = sweep.folder / "thumbnails" / cell["images"] / "0001.webp"
    assert kept.read_bytes() == small.content
    large.unlink()  # made once: now it comes from there
    assert client.get(f"/thumbnails/{cell['images']}/1").content == small.content
    tiny = client.get(f"/thumbnails/{cell['images']}/0")  # as small as it is anyway
    assert tiny.content == (large.parent / "000.png").read_bytes()


def test_no_thumbnail_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (600, 600)).save(path)
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("full")))
    made = Thumbnails(tmp_path / "small").of(path, "x/0000")
    assert made is not None
    assert made.media_type == "image/webp"
    assert [one for one in (tmp_path / "small").rglob("*") if one.is_file()] == []


def test_the_nearest_drawing(client: TestClient, sweep: FakeSweep) -> None:
    cell = client.get("/api/sweep").json()["cells"][0]
    assert client.get(f"/api/nearest/{cell['images']}/0").json() == {"drawing": 0}
    drawing = client.get("/drawings/0/0")
    with Image.open(io.BytesIO(drawing.content)) as image:
        assert image.size == (40, 60)
    assert client.get("/drawings/0/1").status_code == 404  # it is gone


def test_the_grid_as_one_png(client: TestClient) -> None:
    cells = client.get("/api/sweep").json()["cells"]
    places = [{"images": cell["images"], "number": 3, "note": cell["state"]} for cell in cells]
    asked = {"title": EVIL, "columns": ["lr 1e-4", "lr 1e-3", "lr 1e-2", "lr 1e-1"],
             "rows": ["40 steps"], "places": [places]}  # fmt: skip
    answer = client.post("/api/grid", json=asked)
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.width > 4 * 192
        middles = [(round(192 * (2.05 + at)), image.height - 60) for at in range(3)]
        colours = {image.convert("RGB").getpixel(middle) for middle in middles}
    assert len(colours) == 3
    narrow = client.post("/api/grid", json=asked | {"columns": ["one"]})
    assert narrow.status_code == 422
    assert "as many images as there are columns" in narrow.json()["error"]
    many = {"title": "", "columns": ["c"] * 101, "rows": ["r"] * 50,
            "places": [[{"images": None}] * 101] * 50}  # fmt: skip
    assert "5,050 images are more than fit" in client.post("/api/grid", json=many).json()["error"]


def test_a_sweep_that_goes_on_is_read_anew(client: TestClient, sweep: FakeSweep,
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("charsweep.actions.choose.reader.LEAST_SECONDS", 0.0)
    before = client.get("/api/progress").json()
    assert (before["ended"], before["total"], before["running"]) == (4, 8, False)
    assert before["states"] == {"finished": 3, "diverged": 1}
    sweep.add(lr=RATES[0], train_steps=20)
    sweep.write()
    after = client.get("/api/progress").json()
    assert after["version"] != before["version"]
    assert after["ended"] == 5
    assert len(client.get("/api/sweep").json()["cells"]) == 5
    (sweep.folder / "cells.jsonl").write_text("{ half a file\n")
    assert client.get("/api/progress").json()["ended"] == 5  # as it was a moment ago


def test_whether_it_is_running(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert not is_running(lock)
    with locked(lock, "it"):
        assert is_running(lock)
    lock.write_text("4194303 on elsewhere")
    assert not is_running(lock)


@pytest.mark.parametrize(
    ("elapsed", "share", "left"),
    [(0, 0, 100), (40, 0.01, 60), (200, 0, 0), (30, 0.25, 90), (9, 1, 0)],
)
def test_time_left(elapsed: float, share: float, left: float) -> None:
    assert seconds_left(elapsed, share, 100) == pytest.approx(left)


def test_the_share_that_is_trained_counts_steps_once(tmp_path: Path) -> None:
    """Four cells on one trajectory, two of which wait, and one that is composed of it."""
    fake = FakeSweep(tmp_path, {"train_steps": [10, 20, 30, 40]})
    cells = [fake.add(train_steps=steps) for steps in (10, 20)]
    fake.write()
    asked = [
        {"cell": f"{steps}", "values": {"train_steps": steps}, "trajectory": name, "step": steps}
        for steps, name in (
            (30, cells[0]["trajectory"]),
            (40, cells[0]["trajectory"]),
            (40, "composed-1"),
        )
    ]
    asked[2]["cell"] = "0b"
    (fake.folder / "asked.json").write_text(json.dumps(asked))
    now = Reader(fake.folder, fake.store).now()
    assert len(now.waiting) == 3
    assert share_trained(now, 40) == pytest.approx(20 / 40)
    assert share_trained(now, 25) == pytest.approx(5 / 25)  # of 40, 15 were there
    assert now.details_waiting(now.waiting["0b"])["note"].startswith("drawn once both")


# -- voting ----------------------------------------------------------------------------------------


def test_votes_are_written_and_said(client: TestClient, sweep: FakeSweep) -> None:
    for _ in range(3):
        told = vote(client).json()
    assert told["count"] == 3
    assert "vote" in told["says"]
    lines = [json.loads(line) for line in (sweep.folder / FILE).read_text().splitlines()]
    assert len(lines) == 3
    assert {line["voter"] for line in lines} == {"ann"}
    assert all(line["left"] != line["right"] for line in lines)
    assert told["last"] == lines[-1]["id"]
    back = client.post("/api/undo", json={"id": lines[-1]["id"]}).json()
    assert (back["count"], back["last"]) == (2, lines[1]["id"])
    with client_of(sweep) as again:  # another server, the same votes
        assert again.get("/api/votes").json()["count"] == 2
        assert "% (" in again.get(f"/api/cells/{lines[0]['left']}").json()["preference"]


def test_a_vote_that_the_disk_does_not_take_is_sent_again(
    client: TestClient, sweep: FakeSweep
) -> None:
    (sweep.folder / FILE).mkdir()  # what stands in its way
    assert client.get("/api/votes").status_code == 503
    pair = {"id": "0123456789abcdef", "left": "000000000000", "right": "000000000001"}
    asked = pair | {"prompt": 0, "seed": 0, "answer": "left", "seconds": 1}
    assert client.post("/api/votes", json=asked).status_code == 503
    (sweep.folder / FILE).rmdir()
    assert client.post("/api/votes", json=asked).json()["count"] == 1


def test_somebody_elses_vote_is_not_taken_back(sweep: FakeSweep) -> None:
    with client_of(sweep) as client:
        last = vote(client).json()["last"]
    reader = Reader(sweep.folder, sweep.store)
    app, _ = make_app(reader, Voting(Votes(sweep.folder / FILE), "bob"), 5999)
    with TestClient(app, base_url=URL, headers={"Origin": URL}) as other:
        assert other.get("/api/votes").json()["last"] is None
        assert "of yours" in other.post("/api/undo", json={"id": last}).json()["error"]


def test_a_vote_sent_twice_counts_once(client: TestClient) -> None:
    assert vote(client, id="0123456789abcdef").json()["count"] == 1
    assert vote(client, id="0123456789abcdef").json()["count"] == 1


def test_skipping_counts_for_nothing(client: TestClient) -> None:
    assert vote(client, "skip").json()["count"] == 0
    assert vote(client, "tie").json()["count"] == 1


def test_a_pair_from_a_cell_shows_that_cell(client: TestClient) -> None:
    for _ in range(8):
        pair = client.get("/api/pair?cell=000000000000").json()
        assert "000000000000" in (pair["left"]["cell"], pair["right"]["cell"])


def test_where_nothing_can_be_voted_on(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path, {"lr": RATES})
    fake.add(lr=RATES[0])
    fake.write()
    with client_of(fake) as client:
        answer = client.get("/api/pair")
        assert answer.status_code == 400
        assert "two finished settings are needed" in answer.json()["error"]


def test_somebody_elses_votes_are_added_once(
    sweep: FakeSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = FakeSweep(tmp_path / "copy", {"lr": RATES, "train_steps": [20, 40]})
    theirs.cells = sweep.cells
    theirs.write()
    for cell in sweep.cells[:3]:
        theirs.draw(cell["images"], "red")
    with client_of(theirs) as client:
        vote(client)
        vote(client)
    words = ["action=choose", "name=fake", f"root={tmp_path}"]
    for count in (2, 0):
        assert main([*words, f"merge={theirs.folder / FILE}"]) == 0
        assert f"votes    {count} new, 2 in all" in capsys.readouterr().out
    assert main([*words, f"merge={theirs.folder}"]) == 0
    assert main([*words, "merge=nowhere.jsonl"]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_where_there_is_no_such_sweep(
    sweep: FakeSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action=choose", "name=other", f"root={tmp_path}"]) == 2
    assert "there is no sweep other in" in (said := capsys.readouterr().err)
    assert "there are fake, or set name=" in said
    assert not (tmp_path / "sweeps/other").exists()


# -- hostile input ---------------------------------------------------------------------------------

UNKNOWN = [
    ({"left": "ffffffffffff"}, 400, "no two cells of this sweep"),
    ({"left": "../../etc/passwd"}, 422, "left"),
    ({"left": "000000000003"}, 400, "drawn nothing"),
    ({"prompt": 99}, 400, "no such image"),
    ({"prompt": -1}, 422, "prompt"),
    ({"seed": 7}, 400, "no such image"),
    ({"answer": "both"}, 422, "answer"),
    ({"seconds": "NaN"}, 422, "seconds"),
    ({"id": "x"}, 422, "id"),
    ({"voter": "mallory"}, 422, "voter"),
]


@pytest.mark.parametrize(("changed", "status", "words"), UNKNOWN)
def test_votes_on_what_is_not_there_are_refused(
    client: TestClient, sweep: FakeSweep, changed: dict[str, Any], status: int, words: str
) -> None:
    answer = vote(client, **changed)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert not (sweep.folder / FILE).exists()


def test_the_same_cell_twice_is_no_pair(client: TestClient, sweep: FakeSweep) -> None:
    answer = vote(client, left="000000000000", right="000000000000")
    assert answer.status_code == 400
    assert not (sweep.folder / FILE).exists()


PATHS = [
    "/images/../../../../etc/passwd/0", "/images/..%2f..%2fsweep.json/0", "/images/ffffffffffff/0",
    "/images/%2e%2e/0", "/page/..%2fapp.py", "/page/../app.py", "/page/app.py", "/page/",
    "/thumbnails/..%2f..%2f/0", "/drawings/0/99", "/drawings/7/0", "/drawings/-1/0",
    "/api/cells/..%2f..%2fsweep.json", "/api/cells/" + EVIL, "/docs", "/openapi.json",
    "/api/nearest/ffffffffffff/0", "/api/pair?exam=9", "/api/pair?cell=ffffffffffff",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404, 422)
    assert "root:" not in answer.text
    assert "import" not in answer.text
    assert answer.headers["content-type"].startswith("application/json")


def test_an_image_beyond_the_last_one(client: TestClient) -> None:
    cell = client.get("/api/sweep").json()["cells"][0]
    for number in ("4", "-1", "99999999999999999999"):
        assert client.get(f"/images/{cell['images']}/{number}").status_code in (400, 422)


def test_only_images_are_sent_as_images(client: TestClient, sweep: FakeSweep) -> None:
    """A store from somebody else may have anything under the name of an image."""
    cell = client.get("/api/sweep").json()["cells"][0]
    (sweep.store / sweep.cells[0]["images"] / "000.png").write_text(f"<html>{EVIL}</html>")
    for kind in ("images", "thumbnails"):
        answer = client.get(f"/{kind}/{cell['images']}/0")
        assert answer.status_code == 404
        assert EVIL not in answer.text


def test_a_manifest_that_leads_out_is_not_followed(client: TestClient, sweep: FakeSweep) -> None:
    Image.new("RGB", (8, 8)).save(sweep.folder.parent / "secret.png")
    manifest = sweep.store / sweep.cells[1]["images"] / "images.json"
    told = json.loads(manifest.read_text())
    told["files"][0]["file"] = "../../../../secret.png"
    manifest.write_text(json.dumps(told))
    with client_of(sweep) as again:
        cell = again.get("/api/sweep").json()["cells"][1]
        assert again.get(f"/images/{cell['images']}/0").status_code == 400


ELSEWHERE = [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1:80"},
    {"Host": "127.0.0.1.evil.example:5999"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:5000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_pages_from_elsewhere_are_refused(
    client: TestClient, sweep: FakeSweep, headers: dict[str, str]
) -> None:
    for path in ("/", "/api/sweep", "/api/pair"):
        assert client.get(path, headers=headers).status_code == 403
    for path in ("/api/votes", "/api/undo", "/api/export", "/api/grid"):
        assert client.post(path, json={}, headers=headers).status_code == 403
    assert not (sweep.folder / FILE).exists()


def test_nothing_is_changed_without_an_origin(sweep: FakeSweep) -> None:
    """As a form of another page sends it, or a program that is no browser."""
    with client_of(sweep, origin=None) as client:
        assert client.get("/api/sweep").status_code == 200
        answer = client.post("/api/votes", content="{}", headers={"Content-Type": "text/plain"})
        assert answer.status_code == 403


def test_every_answer_has_the_policy(client: TestClient) -> None:
    for path in ("/", "/api/sweep", "/nothing", "/page/app.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert client.get(path).headers["x-content-type-options"] == "nosniff"
    refused = client.get("/", headers={"Host": "evil.example"})
    assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_what_is_too_long_is_not_read(client: TestClient) -> None:
    assert client.post("/api/votes", content=b"[" * 3_000_000).status_code == 413


def test_an_export_of_what_has_no_weights(client: TestClient) -> None:
    answer = client.post("/api/export", json={"cell": "000000000003"})
    assert answer.status_code == 400
    assert "is diverged" in answer.json()["error"]
    assert client.post("/api/export", json={"cell": "ffffffffffff"}).status_code == 404
    assert client.get("/api/export").json()["state"] == "none"


# -- two characters --------------------------------------------------------------------------------


def test_pictures_of_the_second_and_of_both_stand_behind_the_exam(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path, {"lr": RATES[:2]})
    for number, rate in enumerate(RATES[:2]):
        cell = fake.add(lr=rate, scores=scored(0.3) | {"together": 0.3})
        cell["parts"] = {
            part: [fake.draw(f"{part}-{number}", (number, 9, place)), fake.draw(f"base-{part}", 1)]
            for place, part in enumerate(("other", "together"))
        }
        cell |= {"worst": "together", "per_image": {"score": [[0.2, 0.4], [0.3, 0.3]]}}
        cell["per_image"]["leak"] = [[0.5]]  # of prompts that are not shown
        cell["scores"]["leak"] = 0.5
    fake.write()
    with client_of(fake) as client:
        (exam,) = client.get("/api/sweep").json()["exams"]
        assert len(exam["prompts"]) == 6
        assert {one["name"]: one["count"] for one in exam["references"]} == {
            "true picture": 2, "untaught base": 12,
        }  # fmt: skip
        images = client.get("/api/sweep").json()["cells"][1]["images"]
        pixels = [
            Image.open(io.BytesIO(client.get(f"/images/{images}/{number}").content)).getpixel(
                (0, 0)
            )
            for number in (4, 11)
        ]
        assert pixels == [(1, 9, 0), (1, 9, 1)]
        assert client.get(f"/images/{images}/12").status_code == 400
        known = client.get("/api/cells/000000000001").json()["scores"]
        rows = {one["label"]: one["images"] for one in known}
        assert rows["score"] == [[], [], [], [], [0.2, 0.4], [0.3, 0.3]]
        assert rows["leak"] is None
        asked = {vote(client).json()["count"] for _ in range(12)}
        assert asked == set(range(1, 13))
        prompts = {one.prompt for one in Votes(fake.folder / FILE).read()}
        assert prompts == set(range(6))
