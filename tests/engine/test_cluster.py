"""Who is hired of a cluster, and what is said of those who are not; no Ray is started."""

from __future__ import annotations

from typing import Any

import pytest

from charsweep.core.errors import ConfigError

pytestmark = pytest.mark.ray


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster that nobody has joined, whose actors say of themselves what the test hands over."""
    from charsweep.engine import cluster

    monkeypatch.setattr(cluster.ray, "get", lambda about: about)
    monkeypatch.setattr(cluster, "Link", lambda actor, about, threads: about["own"]["host"])
    made: Any = cluster.RayCluster.__new__(cluster.RayCluster)
    made.address, made.kind, made.on_cpu, made.threads = "auto", None, False, 1
    made.said, made._refused, made._failures = [], [], 0
    made._say = made.said.append
    return made


def about(host: str, card: str = "NVIDIA L4", **changed: str) -> dict[str, Any]:
    from charsweep.engine.cluster import what_must_agree

    return {**what_must_agree(), **changed, "own": {"host": host, "node": host, "card": card}}


@pytest.mark.parametrize("what", ["charsweep", "source", "torch", "diffusers", "python"])
def test_another_version_is_refused_in_one_message(what: str, crew: Any) -> None:
    """If it is the first; later it is passed over, and its place is not asked again."""
    with pytest.raises(ConfigError, match=rf"=auto: b is not .*{what}: \"0\" is not"):
        crew._welcome(about("b", **{what: "0"}), "actor")
    assert crew._welcome(about("a"), "actor") == "a"
    assert crew._welcome(about("c", **{what: "0"}), "another") is None
    assert crew.said[0].startswith(f'c is not as the others ({what}: "0" is not')
    assert crew._refused[-1] == "another"


def test_another_card_is_not_mixed_in(crew: Any) -> None:
    assert crew._welcome(about("a"), "actor") == "a"
    assert crew._welcome(about("b", card="NVIDIA H200"), "actor") is None
    assert crew.said == [
        "b is not as the others (card: NVIDIA H200 instead of NVIDIA L4); it is not worked on"
    ]
    assert crew._welcome(about("c"), "actor") == "c"


def test_where_no_actor_starts_that_is_said_after_three(
    crew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at all once others work."""
    from ray.exceptions import RayError

    def fails(_: object) -> None:
        raise RayError("some words\n  ModuleNotFoundError: No module named 'charsweep'\nmore")

    monkeypatch.setattr("ray.get", fails)
    assert crew._welcome("one", "actor") is None
    assert crew._welcome("two", "actor") is None
    with pytest.raises(ConfigError, match="No module named 'charsweep'; install charsweep there"):
        crew._welcome("three", "actor")
    crew.kind = {"card": "NVIDIA L4"}
    assert [crew._welcome("later", "actor") for _ in range(4)] == [None] * 4


def test_rays_words_are_cut_to_the_reason() -> None:
    from charsweep.engine.cluster import reason_of

    died = "The actor died unexpectedly before finishing this task.\n\tclass_name: Holder\n"
    for words, reason in (
        (died + "The actor is dead because its node has died. Node Id: ab", "its node has died"),
        (died + "The actor died because its owner has died.", "its owner has died"),
        ("some words\n  ValueError: no such thing.", "ValueError: no such thing"),
        ("", "RuntimeError"),
    ):
        assert reason_of(RuntimeError(words)) == reason


def test_why_a_cluster_is_not_joined_is_one_message() -> None:
    from charsweep.engine.cluster import refusal

    mismatch = RuntimeError("Version mismatch: The cluster was started with:\n  Python: 3.11.9")
    assert "to the patch (Version mismatch: The cluster" in refusal("auto", mismatch)
    wrong = refusal("10.0.0.7:6379", ConnectionError("Failed to connect"))
    assert wrong.startswith("runtime.cluster=10.0.0.7:6379: no Ray that takes us answers there")
    assert "`ray get-auth-token --generate`" in wrong
    assert "get-auth-token" not in refusal("local", OSError("no space"))
